/* Sends the token, which stands behind the # of the address, when the button is pressed, and not before. */
(() => {
  const form = document.getElementById("confirm");
  const outcome = document.getElementById("outcome");
  const button = form.querySelector("button");
  const token = new URLSearchParams(window.location.hash.slice(1)).get("token");

  const show = (text, isDone) => {
    outcome.textContent = text;
    outcome.className = isDone ? "done" : "failed";
    form.hidden = isDone;
  };

  /* What stays in the history of a shared computer does not have it. */
  window.history.replaceState(null, "", window.location.pathname);
  if (!token) {
    show("This link is not complete. Open it from the mail again.", false);
    form.hidden = true;
    return;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const password = form.elements.password;
    const body = password ? { token, password: password.value } : { token };
    try {
      const answer = await fetch(form.dataset.action, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        credentials: "omit",
        body: JSON.stringify(body),
      });
      const problem = answer.ok ? null : await answer.json();
      show(answer.ok ? form.dataset.done : problem.errors?.[0]?.message || problem.detail, answer.ok);
    } catch {
      show("The server cannot be reached. Try again.", false);
    }
    button.disabled = false;
  });
})();
