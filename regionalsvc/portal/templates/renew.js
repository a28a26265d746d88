// Asks for a new session token after a quarter of the old one's life, so that who
// works here is not signed out. The old one stays good until its time is over, so
// that tabs cannot harm each other; they share when it was last done to spare work.
(() => {
  const every = Number(document.currentScript.dataset.every) * 1000;
  let own = 0;
  const last = () => {
    try { return Number(localStorage.getItem("renewed")) || own; } catch { return own; }
  };
  const note = (when) => {
    own = when;
    try { localStorage.setItem("renewed", String(when)); } catch { /* storage is off */ }
  };
  const renew = async () => {
    const now = Date.now(), before = last();
    if (before <= now && now - before < every) return;
    note(now);
    const answer = await fetch("/session/renew", { method: "POST" }).catch(() => null);
    if (!answer || answer.status >= 500) note(before); // again at the next turn
  };
  renew();
  setInterval(renew, every / 8);
  document.addEventListener("visibilitychange", renew); // a tab that slept
})();
