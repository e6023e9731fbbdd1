/* Before SAQ's own script: where it is mounted, and who asks. The access token stays in this page's memory. */
const root_path = document.documentElement.dataset.root;

(() => {
  const api = document.documentElement.dataset.api;
  const form = document.getElementById("sign-in");
  const main = document.getElementById("app");
  const send = window.fetch.bind(window);
  let token = null;

  const show = (signedIn, message) => {
    form.hidden = signedIn;
    main.hidden = !signedIn;
    form.querySelector("[role=alert]").textContent = message || "";
  };

  /* Whatever goes wrong is `error`, which SAQ's script shows; a token that is no longer good asks to sign in again. */
  window.fetch = async (path, options = {}) => {
    if (!token) return new Response('{"error": ""}');
    const headers = { ...options.headers, Authorization: `Bearer ${token}` };
    const answer = await send(path, { ...options, headers });
    if (answer.ok) return answer;
    const problem = await answer.json();
    if (answer.status === 401) {
      token = null;
      show(false, problem.detail);
    }
    return new Response(JSON.stringify({ error: problem.detail }));
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { email, password } = form.elements;
    const answer = await send(`${api}/auth/login`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ email: email.value, password: password.value }),
    });
    const body = await answer.json();
    password.value = "";
    token = answer.ok ? body.access_token : null;
    show(answer.ok, body.detail);
    if (answer.ok) renderPage();
  });

  show(false);
})();
