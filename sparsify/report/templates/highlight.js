// Pointing at a row, a box or a line marks everything that belongs to the same group.
const marked = document.querySelectorAll("[data-in]");
function show(target) {
  const item = target.closest("[data-pick]");
  const words = item ? item.dataset.pick.split(" ").filter(Boolean) : [];
  document.body.classList.toggle("picking", words.length > 0);
  for (const other of marked) {
    other.classList.toggle("on", other.dataset.in.split(" ").some((word) => words.includes(word)));
  }
}
for (const event of ["mouseover", "focusin"]) {
  document.addEventListener(event, (e) => show(e.target));
}
const first = document.querySelector(".drawing .node");
if (first && !location.hash) {
  const panel = first.closest(".drawing"), box = first.getBBox();
  panel.scrollLeft = box.x + (box.width - panel.clientWidth) / 2;
}
