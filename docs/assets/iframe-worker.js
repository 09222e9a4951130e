// Browsers start no worker from a file that was opened without a server, and the theme's search is one. Behind a
// file:// address a hidden frame stands in for it. The theme looks for the name IFrameWorker.
(() => {
  if (location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      this.ready = new Promise((resolve) => {
        inside.ready = resolve;
      });
      inside.answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.document.open();
      inside.document.write(
        "<script>postMessage = answer; importScripts = (...urls) => Promise.all(urls.map((url) => new Promise((done) => {" +
          'const script = document.createElement("script"); script.src = url; script.onload = done;' +
          "document.head.append(script); })));</" + "script>" +
          `<script src="${url}" onload="ready()"></` + "script>",
      );
      inside.document.close();
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.IFrameWorker = window.Worker = IFrameWorker;
})();
