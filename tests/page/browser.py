"""A browser that is told what to do: a JSON object a line in, an answer a line out.

Run by tests/page, with the path of Chromium as its argument. An answer is {"value": …}, or {"error": …}.
What the page does wrong meanwhile (violations of its content security policy, errors of its scripts,
dialogs, requests to others) is collected until it is asked for.
"""

import asyncio
import json
import sys
import traceback
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Error, async_playwright, expect

# For anything that is waited for, in ms: far more than it takes, so that it fails and does not hang.
PATIENCE = 60_000

# Nothing but this machine can be reached, whatever the page or the browser itself would like.
ARGUMENTS = [
    "--no-sandbox",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]

# Told by the browser in the page, as soon as it happens.
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  complain(`${event.violatedDirective} refuses ${event.blockedURI || event.sample}`);
});
"""


class Browser:
    def __init__(self, playwright, chromium):
        self.playwright = playwright
        self.chromium = chromium
        self.browser = None
        self.page = None
        self.origin = None
        self.complaints = []

    async def open(self, url, width=1280, height=900, scheme="light", clock=False):
        """A new page, with nothing left of the one before."""
        if self.browser is None:
            self.browser = await self.playwright.chromium.launch(
                executable_path=self.chromium, args=ARGUMENTS, timeout=PATIENCE
            )
        await self.close()
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB"
        )
        context.set_default_timeout(PATIENCE)
        self.page = page = await context.new_page()
        if clock:
            await page.clock.install()
        parts = urlsplit(url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.complaints.append(f"an error: {error}"))
        page.on("dialog", self.interrupted)
        page.on("request", self.requested)
        await page.expose_function("complain", lambda text: self.complaints.append(text))
        await page.add_init_script(WATCH)
        await page.goto(url)

    async def close(self):
        """The page goes, and with it its profile."""
        if self.page is not None:
            await self.page.context.close()
            self.page = None

    def heard(self, message):
        # That a request was refused or got no answer is what some of the tests are about.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(f"on the console: {message.text}")

    async def interrupted(self, dialog):
        self.complaints.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    def requested(self, request):
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.complaints.append(f"a request to {request.url}")

    def find(self, place):
        """A place is a list of steps, each within the one before."""
        found = self.page
        for step in place:
            if "css" in step:
                found = found.locator(step["css"])
            elif "role" in step:
                found = found.get_by_role(step["role"], name=step["name"], exact=True)
            elif "label" in step:
                found = found.get_by_label(step["label"], exact=True)
            elif "having" in step:
                found = found.filter(has_text=step["having"])
            elif "containing" in step:
                found = found.filter(has=self.find(step["containing"]))
        return found

    async def do(self, what, place=(), **how):
        if what == "open":
            return await self.open(**how)
        if what == "close":
            return await self.close()
        if what == "complaints":
            complaints, self.complaints[:] = list(self.complaints), []
            return complaints
        if what == "axe":
            found = await Axe().run(self.page, options={"resultTypes": ["violations"]})
            return [
                f"{violation['id']}: {violation['nodes'][0]['html'][:200]}"
                for violation in found.response["violations"]
            ]
        if what == "reload":
            return await self.page.reload() and None
        if what == "press":
            return await self.page.keyboard.press(how["key"])
        if what == "evaluate":
            return await self.page.evaluate(how["script"])
        if what == "forward":
            return await self.page.clock.fast_forward(how["ms"])
        if what == "scheme":
            return await self.page.emulate_media(color_scheme=how["scheme"])
        if what == "picture":
            return await self.page.screenshot(path=how["path"], animations="disabled") and None
        if what == "until":
            # Not by wait_for_function, which the page's content security policy forbids.
            async with asyncio.timeout(PATIENCE / 1000):
                while not await self.page.evaluate(how["script"]):
                    await asyncio.sleep(0.02)
            return None
        found = self.find(place)
        if what == "click":
            return await found.click()
        if what == "fill":
            return await found.fill(how["text"])
        if what == "focus":
            return await found.focus()
        if what == "see":
            return await expect(found).to_be_visible(timeout=PATIENCE)
        if what == "read":
            return await expect(found).to_contain_text(how["text"], timeout=PATIENCE)
        if what == "count":
            return await expect(found).to_have_count(how["count"], timeout=PATIENCE)
        if what == "hidden":
            return await expect(found).to_be_hidden(timeout=PATIENCE)
        if what == "focused":
            return await expect(found).to_be_focused(timeout=PATIENCE)
        if what == "text":
            return await found.inner_text()
        if what == "attribute":
            return await found.get_attribute(how["name"])
        raise ValueError(f"{what} is not known")


async def main():
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with async_playwright() as playwright:
        browser = Browser(playwright, sys.argv[1])
        while line := await orders.readline():
            try:
                answer = {"value": await browser.do(**json.loads(line))}
            except (Error, AssertionError) as error:
                answer = {"error": str(error)}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), flush=True)
        if browser.browser is not None:
            await browser.browser.close()


asyncio.run(main())
