// A button in the head of a column sorts the table by it: rising, then falling. Rows without a value stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0], place = head.cellIndex;
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[place].dataset.v ?? row.cells[place].textContent.trim();
    const compare = (a, b) => {
      const [one, two] = [value(a), value(b)];
      if (!one || !two) return !one - !two;
      const order = isNaN(one) || isNaN(two) ? one.localeCompare(two, undefined, { numeric: true }) : one - two;
      return falling ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
