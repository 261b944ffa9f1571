// What stands behind the # goes with whoever logs in: /phone#persona=noir, /#history/ID.
//
// It may hold a prompt, so it is not sent: a redirect that names no # keeps the one that was asked
// with (Fetch, 4.4 "HTTP-redirect fetch"). So has it come here, and so it goes on.

const form = document.querySelector("form");
const carry = () => (form.action = `/console/login${location.hash}`);
carry();
addEventListener("hashchange", carry);
