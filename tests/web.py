#!/usr/bin/env python3
"""Looks at the web page with Chromium: live changes, clicks, keys, a phone's width, logs, requests of other sites.

Needs chromium and chromium-driver; speaks WebDriver with the standard library. Screenshots go to --screenshots.
"""

import argparse
import base64
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

BOUND = 120  # seconds, the longest wait for anything
# What a browser says that has clicked nothing.
NOT_CLICKED = ("no such element", "stale element reference", "element not interactable", "element click intercepted")
KEYS = {"ENTER": "\ue007", "ESCAPE": "\ue00c", "TAB": "\ue004"}
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage"
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class DriverError(AssertionError):
    """The browser refuses a command: also while it goes from one page to the next, or changes what was to be clicked."""


def until(what, condition):
    """Waits until condition() is true and returns what it gave."""
    end = time.monotonic() + BOUND
    while True:
        found = problem = None
        try:
            found = condition()
        except DriverError as error:
            problem = error
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}: {problem}")
        time.sleep(0.02)


class Browser:
    """A WebDriver session in a profile of its own."""

    def __init__(self, directory):
        self.port = free_port()
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until("chromedriver", self.is_ready)
        arguments = FLAGS.split() + [f"--user-data-dir={tempfile.mkdtemp(dir=directory)}"]
        options = {"args": arguments}
        reply = self.send("POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}, root=True)
        self.session = reply["sessionId"]

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as reply:
                return json.load(reply)["value"]["ready"]
        except OSError:
            return False

    def send(self, method, path, body=None, root=False):
        base = f"http://127.0.0.1:{self.port}/session"
        url = base if root else f"{base}/{self.session}{path}"
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * BOUND) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise DriverError(f"{method} {path}: {error.read().decode()[:500]}") from error

    def go(self, url):
        self.send("POST", "/url", {"url": url})

    def run(self, script, *args):
        return self.send("POST", "/execute/sync", {"script": script, "args": list(args)})

    def click(self, selector):
        until(f"{selector} to be clicked", lambda: self.is_clicked(selector))

    def is_clicked(self, selector):
        """Clicks, unless there is nothing to click at this moment: a live page changes."""
        try:
            found = self.send("POST", "/element", {"using": "css selector", "value": selector})
            self.send("POST", f"/element/{next(iter(found.values()))}/click")
        except DriverError as error:
            if not any(reason in str(error) for reason in NOT_CLICKED):
                raise AssertionError(str(error)) from error
            return False
        return True

    def keys(self, *keys):
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self.send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def command(self, name, **params):
        return self.send("POST", "/goog/cdp/execute", {"cmd": name, "params": params})

    def size(self, width, height, phone=False):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )

    def scheme(self, value):
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def shot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.send("GET", "/screenshot")))

    def close(self):
        try:
            self.send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()


CONFIG = """
[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}
identifier=production-7
[unix_http_server]
file={dir}/s.sock
[inet_http_server]
port=127.0.0.1:{port}
[program:api]
command=/bin/sh -c 'while :; do printf "\\033[32mINFO\\033[0m  GET /health 200 in 3 ms\\n"; sleep 0.5; done'
stopasgroup=true
[program:cron]
command=/bin/sleep 100000
[program:mailer]
command=/bin/sleep 100000
autostart=false
[program:broken]
command=/nonexistent/program
startretries=0
[program:crasher]
command=/bin/sh -c 'exit 3'
startretries=1000
[program:migrate]
command=/bin/true
startsecs=0
autorestart=false
[program:count]
command=/bin/sh -c 'i=1000000; while :; do i=$((i+1)); echo "line $i"; sleep 0.05; done'
stopasgroup=true
[program:same]
command=/bin/sh -c 'yes same | head -n 3000; exec sleep 100000'
[program:bulk]
command=/bin/sh -c 'seq 1000000 1020000; i=1020000; while :; do i=$((i+1)); echo $i; sleep 0.05; done'
stopasgroup=true
[program:worker]
command=/bin/sleep 100000
process_name=%(program_name)s_%(process_num)02d
numprocs={workers}
startsecs=0
"""


class Daemon:
    """supervisord with a TCP socket, in a directory of its own."""

    def __init__(self, binary, directory, workers):
        self.dir = tempfile.mkdtemp(dir=directory)
        self.port = free_port()
        with open(f"{self.dir}/s.conf", "w", encoding="utf-8") as file:
            file.write(CONFIG.format(dir=self.dir, port=self.port, workers=workers))
        output = open(f"{self.dir}/out", "w", encoding="utf-8")
        self.process = subprocess.Popen([binary, "-n", "-c", f"{self.dir}/s.conf"], stdout=output, stderr=output)
        self.url = f"http://localhost:{self.port}/"
        until("supervisord", self.answers)

    def answers(self):
        assert self.process.poll() is None, open(f"{self.dir}/out", encoding="utf-8").read()
        try:
            with urllib.request.urlopen(f"{self.url}ok.html", timeout=5) as reply:
                return reply.read() == b"OK"
        except OSError:
            return False

    def act(self, name, action):
        urllib.request.urlopen(f"{self.url}index.html?processname={name}&action={action}", timeout=BOUND).close()

    def upgrade(self):
        started = lambda: open(f"{self.dir}/supervisord.log", encoding="utf-8").read().count(" was replaced by ")
        before = started()
        self.process.send_signal(signal.SIGUSR1)
        until("the upgrade", lambda: started() > before)
        until("the next daemon", self.answers)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()


def proxy(target, pass_on):
    """A proxy that puts the page below /sup/ and passes bodies on with `pass_on`, from `target`."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            request = urllib.request.Request(target + self.path.removeprefix("/sup/"), headers=dict(self.headers))
            try:
                with urllib.request.urlopen(request, timeout=2 * BOUND) as reply:
                    pass_on(self, reply)
            except OSError:
                pass  # the browser has gone

        def begin(self, reply):
            self.send_response(200)
            for name, value in reply.headers.items():
                if name.lower() == "content-type" or name.lower().startswith("x-log-"):
                    self.send_header(name, value)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def collected(proxy, reply):
    """Nothing before the answer is complete."""
    body = reply.read()
    proxy.begin(reply)
    proxy.send_header("Content-Length", str(len(body)))
    proxy.end_headers()
    proxy.wfile.write(body)


def slowly(proxy, reply):
    """As a network does it: some at a time."""
    proxy.begin(reply)
    proxy.end_headers()
    while piece := reply.read1(14000):
        proxy.wfile.write(piece)
        time.sleep(0.02)


STATE = "return document.querySelector(`.row[data-name='${arguments[0]}'] .state`)?.textContent"
WHAT = "return document.querySelector(`.row[data-name='${arguments[0]}'] .what`)?.textContent"
# The contrast of text with what is behind it, where it is less than 4.5 (source: WCAG 2.2, 1.4.3).
PALE = """
const light = (c) => [.2126, .7152, .0722].reduce((sum, part, at) => {
  const v = c[at] / 255;
  return sum + part * (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
}, 0);
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const colour = numbers(getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const contrast = (element, pseudo) => {
  const [a, b] = [numbers(getComputedStyle(element, pseudo).color), behind(element)].map(light);
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
};
const found = [...document.querySelectorAll("body *")]
  .filter((one) => one.offsetParent && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
  .map((one) => [one.tagName + "." + one.className, contrast(one)]);
const filter = document.getElementById("filter");
if (filter) found.push(["placeholder", contrast(filter, "::placeholder")]);
return found.filter((one) => one[1] < 4.5);
"""
# What is smaller than fingers need (source: WCAG 2.2, 2.5.8, where what is inside text is free).
SMALL = """return [...document.querySelectorAll("button, summary, .acts a, nav a")].filter((one) => one.offsetParent)
  .map((one) => [one.outerHTML.slice(0, 80), one.offsetWidth, one.offsetHeight])
  .filter((one) => one[1] < 24 || one[2] < 24)"""
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Checks:
    """The checks, in order."""

    def __init__(self, browser, daemon, shots):
        self.browser, self.daemon, self.shots = browser, daemon, shots

    def open(self):
        """Shows the page, and waits until a click on it is taken for one."""
        self.browser.go(self.daemon.url)
        until("clicks to count", lambda: self.browser.run("return performance.now() - focused > REFLEX"))

    def state(self, name):
        return self.browser.run(STATE, name)

    def until_state(self, name, state):
        until(f"{name} to be {state} on the page", lambda: self.state(name) == state)

    def the_page_is_live_when_a_program_is_killed(self):
        browser = self.browser
        browser.size(1280, 900)
        self.open()
        self.until_state("cron", "running")
        browser.run("window.untouched = true")
        before = browser.run(WHAT, "cron")
        os.kill(int(before.split()[1].rstrip(",")), signal.SIGKILL)
        until("another pid on the page", lambda: "pid" in (now := browser.run(WHAT, "cron")) and now.split(",")[0] != before.split(",")[0])
        assert browser.run("return window.untouched") is True, "the page was reloaded"

    def uptime_is_counted_in_the_browser(self):
        first = self.browser.run(WHAT, "worker:worker_00")
        until("the uptime to grow", lambda: self.browser.run(WHAT, "worker:worker_00") != first)

    def buttons_stop_and_start_without_leaving_the_page(self):
        self.until_state("cron", "running")
        self.browser.click(".row[data-name='cron'] .stop")
        self.until_state("cron", "stopped")
        until("the message", lambda: "Process cron stopped" in self.browser.run("return message.textContent"))
        self.browser.click(".row[data-name='cron'] .start")
        self.until_state("cron", "running")
        assert self.browser.run("return window.untouched") is True, "the page was reloaded"

    def the_keyboard_is_enough(self):
        browser = self.browser
        browser.run("document.activeElement.blur()")
        browser.keys("/", *"mailer")
        until("the filter", lambda: browser.run("return [...document.querySelectorAll('.row')].filter(r => !r.hidden).length") == 1)
        browser.keys("ENTER")
        until("the row to have the focus", lambda: browser.run("return document.activeElement.dataset.name") == "mailer")
        browser.keys("s")
        self.until_state("mailer", "running")
        until("the focus to stay", lambda: browser.run("return document.activeElement.closest('.row')?.dataset.name") == "mailer")
        browser.keys("x")
        self.until_state("mailer", "stopped")
        browser.keys("ENTER")
        until("the details", lambda: browser.run("return document.querySelector(\".row[data-name='mailer'] details\").open"))
        browser.keys("ENTER", "ESCAPE")
        first = browser.run("return document.activeElement.dataset.name")
        browser.keys("j")
        until("j to move the selection", lambda: browser.run("return document.activeElement.dataset.name") != first)
        browser.keys("?")
        until("the help", lambda: browser.run("return document.querySelector('dialog')?.open"))
        browser.keys("ESCAPE")
        until("no help", lambda: browser.run("return !document.querySelector('dialog')"))

    def keys_do_nothing_to_a_row_that_does_not_have_the_focus_and_count_once(self):
        browser = self.browser
        browser.run("window.asked = []; const real = fetch; window.fetch = (...all) => (asked.push(String(all[0])), real(...all))")
        browser.run("document.activeElement.blur()")
        browser.keys("x")
        until("a row to be shown", lambda: browser.run("return document.activeElement.className.includes('row')"))
        assert browser.run("return asked.filter((url) => url.includes('stop'))") == [], "something was stopped"
        browser.run("select(rows.get('cron'))")
        press = "rows.get('cron').dispatchEvent(new KeyboardEvent('keydown', { key: 'r', repeat: arguments[0], bubbles: true }))"
        browser.run(press, False)
        for _ in range(20):
            browser.run(press, True)
        assert len(browser.run("return asked.filter((url) => url.includes('restart'))")) == 1, "one key, many restarts"
        self.until_state("cron", "running")
        until("the message", lambda: "Process cron restarted" in browser.run("return message.textContent"))

    def what_has_the_focus_is_not_under_the_head(self):
        browser = self.browser
        browser.size(1280, 480)
        browser.run("select(visibleRows().at(-1))")
        for key in ["k"] * 10:
            browser.keys(key)
            edges = "return [document.activeElement.getBoundingClientRect().top, document.querySelector('header').getBoundingClientRect().bottom]"
            top, head = browser.run(edges)
            assert top >= head, f"a row at {top} px under a head of {head} px"
        browser.size(1280, 900)

    def nothing_moves_under_the_pointer(self):
        browser = self.browser
        # At once, for rows that change meanwhile may move others.
        moved = browser.run("""
            message.hidden = true;
            scrollTo(0, 0);
            const top = () => rows.get("worker:worker_02").getBoundingClientRect().top;
            const before = top();
            say("a message", true);
            return top() - before;
        """)
        assert moved == 0, f"a message moves the rows by {moved}"
        browser.size(1280, 300)
        browser.run("scrollTo(0, 10000)")
        seen = "const at = message.getBoundingClientRect(); return at.top >= 0 && at.bottom <= innerHeight"
        assert browser.run(seen), "a message is not seen at the end of the page"
        browser.size(1280, 900)
        browser.run("message.hidden = true; scrollTo(0, 0)")
        places = "return [...document.querySelectorAll('.' + arguments[0])].filter((one) => one.offsetParent).map((one) => one.getBoundingClientRect().left)"
        start, stop, restart = (set(browser.run(places, one)) for one in ["start", "stop", "restart"])
        assert start == restart and len(start) == len(stop) == 1 and start != stop, f"{start} {stop} {restart}"

    def a_button_that_is_being_pressed_stays_while_its_row_changes(self):
        outcome = self.browser.run("""
            const row = rows.get("cron");
            const stop = row.querySelector(".stop");
            stop.focus();
            const html = row.outerHTML.replace(/pid [0-9]+/, "pid 12345678");
            return apply({ rows: [html], total: rows.size, notices: "" }).then(() =>
              [stop.isConnected, document.activeElement === stop, rows.get("cron").querySelector(".what").textContent]);
        """)
        assert outcome[:2] == [True, True] and "pid 12345678" in outcome[2], outcome

    def a_click_that_was_meant_for_another_window_asks(self):
        browser = self.browser
        browser.run("focused = performance.now(); rows.get('cron').querySelector('.stop').click()")
        assert browser.run("return document.querySelector('dialog')?.textContent").startswith("Stop cron?")
        browser.run("document.querySelector('dialog .go').click()")
        assert browser.run("return document.querySelector('dialog').open"), "it was answered before it could be read"
        browser.keys("ESCAPE")
        until("no question", lambda: browser.run("return !document.querySelector('dialog')"))
        assert self.state("cron") == "running"

    def stopping_all_asks_first(self):
        self.browser.click("button[formaction*=stopall]")
        until("the question", lambda: self.browser.run("return document.querySelector('dialog')?.open"))
        number = self.browser.run("return rows.size")
        assert f"Stop all {number} processes?" in self.browser.run("return document.querySelector('dialog').textContent")
        self.browser.shot(f"{self.shots}/question.png")
        self.browser.keys("ESCAPE")
        until("no question", lambda: self.browser.run("return !document.querySelector('dialog')"))
        assert self.state("cron") == "running"

    def it_is_readable_in_light_and_dark_and_on_a_phone(self):
        browser = self.browser
        until("the broken one", lambda: self.state("broken") == "fatal")
        for scheme in ["light", "dark"]:
            browser.scheme(scheme)
            browser.size(1280, 900)
            browser.go(self.daemon.url)
            browser.run("document.querySelector(\".row[data-name='crasher'] details\").open = true")
            browser.shot(f"{self.shots}/desktop-{scheme}.png")
            browser.run("say('a message')")
            assert browser.run(PALE) == [], browser.run(PALE)
            assert browser.run(SMALL) == [], browser.run(SMALL)
            browser.size(360, 740, phone=True)
            browser.go(self.daemon.url)
            assert browser.run(WIDE) <= 0, f"{browser.run(WIDE)} px wider than a phone"
            assert browser.run(SMALL) == [], browser.run(SMALL)
            browser.shot(f"{self.shots}/phone-{scheme}.png")
        browser.scheme("light")

    def a_log_is_followed(self):
        browser = self.browser
        browser.size(1280, 700)
        browser.go(f"{self.daemon.url}tail.html?processname=api")
        text = "return document.getElementById('log').textContent.length"
        until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
        until("the log", lambda: browser.run(text) > 50)
        before = browser.run(text)
        until("new lines", lambda: browser.run(text) > before)
        assert browser.run("return document.querySelector('#log .c-2')?.textContent") == "INFO", "colours are shown"
        assert "\x1b" not in browser.run("return document.getElementById('log').textContent")
        browser.shot(f"{self.shots}/tail.png")
        far = "return log.scrollHeight - log.scrollTop - log.clientHeight"
        browser.run("add('many lines\\n'.repeat(20000)); wrap.click(); wrap.click()")
        until("the end to be shown", lambda: browser.run(far) < 40)
        assert browser.run("return toEnd.checked"), "it no longer follows though nobody scrolled"
        browser.run("log.dispatchEvent(new WheelEvent('wheel')); log.scrollTop -= 500")
        until("it not to follow", lambda: not browser.run("return toEnd.checked"))
        browser.run("wrap.click(); add('x'.repeat(5000))")
        assert browser.run("return log.scrollWidth > 5000"), "what is wider than the page cannot be reached"
        browser.go(f"{self.daemon.url}tail.html?processname=api")
        until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
        until("the log", lambda: browser.run(text) > 50)
        assert browser.run(PALE) == [], browser.run(PALE)
        browser.size(360, 740, phone=True)
        assert browser.run(WIDE) <= 0, "the log is wider than a phone"
        browser.shot(f"{self.shots}/tail-phone.png")
        browser.size(1280, 900)

    def forms_of_other_sites_are_refused(self):
        target = f"{self.daemon.url}index.html?processname=cron&action=stop"
        page = f"<form method=post action='{target}'><button>x</button></form><img src='{target}'>"

        class Evil(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.browser.go(f"http://127.0.0.1:{server.server_port}/")
        self.browser.click("button")
        until("the refusal", lambda: "another site" in self.browser.run("return document.body.textContent"))
        server.shutdown()
        self.browser.go(self.daemon.url)
        assert self.state("cron") == "running", "a foreign page stopped a program"

    def who_goes_back_and_forth_keeps_no_connection(self):
        browser = self.browser
        for _ in range(5):
            browser.go(self.daemon.url)
            browser.go(f"{self.daemon.url}tail.html?processname=api")
            until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
        browser.go(self.daemon.url)
        self.until_state("cron", "running")

    def a_tab_that_nobody_looks_at_has_no_stream(self):
        browser = self.browser
        browser.go(self.daemon.url)
        until("a stream", lambda: browser.run("return source?.readyState === EventSource.OPEN"))
        look = """
            Object.defineProperty(document, "hidden", { get: () => arguments[0], configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        """.replace("arguments[0]", "window.isHidden")
        browser.run(f"window.isHidden = true; {look}")
        assert browser.run("return source") is None, "it has a stream"
        self.daemon.act("mailer", "start")
        browser.run(f"window.isHidden = false; {look}")
        self.until_state("mailer", "running")
        self.daemon.act("mailer", "stop")
        self.until_state("mailer", "stopped")

    def the_filter_is_there_again_after_a_look_at_a_log(self):
        browser = self.browser
        browser.go(self.daemon.url)
        browser.run("document.activeElement.blur()")
        browser.keys("/", *"cron")
        browser.keys("ENTER", "l")
        until("the log", lambda: browser.run("return document.title").startswith("Supervisor tail"))
        browser.keys("ESCAPE")
        until("the list", lambda: browser.run("return [...document.querySelectorAll('.row')].filter(r => !r.hidden).length") == 1)
        browser.run("filter.value = ''; refresh()")

    def without_a_stream_that_is_free_the_page_asks(self):
        browser = self.browser
        browser.go("about:blank")
        request = b"GET /ui/changes?since= HTTP/1.1\r\nHost: localhost\r\n\r\n"
        held = []
        while True:
            held.append(socket.create_connection(("127.0.0.1", self.daemon.port)))
            held[-1].sendall(request)
            if b" 503 " in held[-1].recv(100):
                break
        browser.go(self.daemon.url)
        for action, state in [("start", "running"), ("stop", "stopped")]:
            self.daemon.act("mailer", action)
            self.until_state("mailer", state)
        until("it not to be lost", lambda: browser.run("return document.getElementById('lost').hidden"))
        for one in held:
            one.close()

    def many_tabs_leave_connections_for_each_other(self):
        browser = self.browser
        browser.go(self.daemon.url)
        first = browser.send("GET", "/window")
        opened = []
        for number in range(9):
            opened.append(browser.send("POST", "/window/new", {"type": "tab"})["handle"])
            browser.send("POST", "/window", {"handle": opened[-1]})
            browser.go(self.daemon.url + ("tail.html?processname=api" if number % 2 else ""))
        self.until_state("cron", "running")
        browser.command("Page.bringToFront")
        until("clicks to count", lambda: browser.run("return performance.now() - focused > REFLEX"))
        browser.click(".row[data-name='mailer'] .start")
        self.until_state("mailer", "running")
        # Those that had to give their stream up see it too.
        for handle in [first, opened[0]]:
            browser.send("POST", "/window", {"handle": handle})
            self.until_state("mailer", "running")
        self.daemon.act("mailer", "stop")
        for handle in opened:
            browser.send("POST", "/window", {"handle": handle})
            browser.send("DELETE", "/window")
        browser.send("POST", "/window", {"handle": first})
        self.until_state("mailer", "stopped")

    def a_proxy_that_collects_answers_does_not_stop_the_page(self):
        browser = self.browser
        server = proxy(self.daemon.url, collected)
        browser.go(f"http://localhost:{server.server_port}/sup/")
        self.until_state("mailer", "stopped")
        for action, state in [("start", "running"), ("stop", "stopped")]:
            self.daemon.act("mailer", action)
            self.until_state("mailer", state)
        assert browser.run("return document.getElementById('lost').hidden"), "it says that the connection is lost"
        browser.go(f"http://localhost:{server.server_port}/sup/tail.html?processname=count")
        count = "return (document.getElementById('log').textContent.match(/line \\d+/g) || []).length"
        for _ in range(2):
            before = browser.run(count)
            until("more lines", lambda: browser.run(count) > before)
        browser.go("about:blank")
        server.shutdown()

    def addresses_with_name_and_password_work(self):
        browser = self.browser
        url = self.daemon.url.replace("//", "//user:secret@")
        browser.go(f"{url}tail.html?processname=api")
        until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
        browser.go(url)
        until("clicks to count", lambda: browser.run("return performance.now() - focused > REFLEX"))
        for action, state in [("start", "running"), ("stop", "stopped")]:
            browser.click(f".row[data-name='mailer'] .{action}")
            self.until_state("mailer", state)

    def a_log_goes_on_where_it_was_interrupted(self):
        browser = self.browser
        browser.go(f"{self.daemon.url}tail.html?processname=count")
        count = "return (document.getElementById('log').textContent.match(/line \\d+/g) || []).length"
        for _ in range(3):
            until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
            before = browser.run(count)
            until("more lines", lambda: browser.run(count) > before + 3)
            browser.run("stop.abort()")
        text = browser.run("return document.getElementById('log').textContent")
        numbers = [int(line.split()[1]) for line in text.splitlines() if line]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"lines are lost or doubled: {numbers}"

    def glances_at_a_log_add_what_is_new_and_nothing_else(self):
        browser = self.browser
        browser.go(f"{self.daemon.url}tail.html?processname=same")
        text = "return document.getElementById('log').textContent"
        until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
        until("the log", lambda: browser.run(text) == "same\n" * 3000)
        browser.run("performance.clearResourceTimings(); isHeldBack = true; stop.abort()")
        glances = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('once=1')).length"
        until("glances", lambda: browser.run(glances) >= 3)
        found = browser.run(text)
        assert found == "same\n" * 3000, f"{found.count('same')} lines of 3000: {found[-200:]}"
        path = next(f"{self.daemon.dir}/{name}" for name in os.listdir(self.daemon.dir) if name.startswith("same-stdout"))
        with open(path, "a", encoding="utf-8") as file:
            file.write("new\n")
        until("the new line", lambda: browser.run(text) == "same\n" * 3000 + "new\n")
        with open(path, "w", encoding="utf-8") as file:
            file.write("after\n")
        until("the next log", lambda: browser.run(text).endswith("new\nthe log was cleared, or some of what was written meanwhile is gone: this is its endafter\n"))

    def a_log_goes_on_where_it_was_interrupted_though_the_network_is_slow(self):
        browser = self.browser
        server = proxy(self.daemon.url, slowly)
        browser.go(f"http://localhost:{server.server_port}/sup/tail.html?processname=bulk&limit=262144")
        text = "return document.getElementById('log').textContent"
        count = "return document.getElementById('log').textContent.length"
        until("the stream", lambda: browser.run("return document.getElementById('state').textContent") == "live")
        until("the log", lambda: browser.run(count) > 8 * 20001)
        for _ in range(3):
            before = browser.run(count)
            browser.run("stop.abort()")
            until("more lines", lambda: browser.run(count) > before + 24)
        lines = browser.run(text).splitlines()
        expected = [str(number) for number in range(1000000, 1000000 + len(lines))]
        wrong = next((at for at, (one, other) in enumerate(zip(lines, expected)) if one != other), None)
        assert wrong is None, f"after {lines[wrong - 1]} comes {lines[wrong]}"
        browser.go("about:blank")
        server.shutdown()

    def links_to_actions_ask(self):
        self.browser.go(f"{self.daemon.url}index.html?processname=cron&action=stop")
        assert "Nothing has been done yet" in self.browser.run("return document.body.textContent")
        assert self.browser.run("return document.activeElement.tagName") == "A", "Enter would say yes"
        enabled = "return !document.querySelector('button.go').disabled"
        assert not self.browser.run("arm()" + "; " + enabled), "it can be answered before it was read"
        until("the question to be read", lambda: self.browser.run(enabled))
        self.browser.shot(f"{self.shots}/confirm.png")
        self.browser.click("button.go")
        until("the status", lambda: self.browser.run("return document.title").endswith("Supervisor Status"))
        self.until_state("cron", "stopped")

    def an_open_page_goes_on_after_an_upgrade(self):
        browser = self.browser
        self.open()
        self.until_state("cron", "stopped")
        browser.run("window.untouched = true")
        self.daemon.upgrade()
        self.daemon.act("cron", "start")
        self.until_state("cron", "running")
        until("it no longer to say that the daemon is gone", lambda: browser.run("return document.getElementById('lost').hidden"))
        # What the page holds from the daemon before must not be needed any more.
        browser.click(".row[data-name='cron'] .stop")
        self.until_state("cron", "stopped")
        assert browser.run("return window.untouched") is True, "the page was reloaded"
        # Of another version all is taken anew, also what the browser keeps.
        browser.run("document.querySelector('script[src*=\"page.js\"]').setAttribute('src', 'ui/page.js?v=older')")
        self.daemon.upgrade()
        until("the page to be loaded anew", lambda: browser.run("return !window.untouched"))
        self.until_state("cron", "stopped")

    def the_end_of_the_daemon_is_noticed(self):
        self.daemon.end()
        until("the banner", lambda: self.browser.run("return !document.getElementById('lost').hidden"))
        # What is not known does not go on.
        self.browser.run("for (const time of list.getElementsByTagName('time')) up.set(time, 0); tick()")
        before = self.browser.run(WHAT, "worker:worker_00")
        self.browser.run("up.set(rows.get('worker:worker_00').querySelector('time'), -1e9); tick()")
        assert self.browser.run(WHAT, "worker:worker_00") == before, "an uptime is counted without a daemon"
        self.browser.shot(f"{self.shots}/lost.png")


def many(browser, binary, directory):
    """1,000 programs: how long the page takes. Reported, not judged."""
    daemon = Daemon(binary, directory, 1000)
    try:
        until("1,000 programs", lambda: urllib.request.urlopen(daemon.url).read().count(b"row s-running") > 1000)
        began = time.monotonic()
        size = len(urllib.request.urlopen(daemon.url).read())
        fetched = time.monotonic() - began
        browser.go(daemon.url)
        loaded = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
        ready = until("the page to be loaded", lambda: browser.run(loaded))
        rows = browser.run("return document.querySelectorAll('.row').length")
        print(f"{rows} rows: {size / 1e6:.2f} MB fetched in {fetched * 1e3:.0f} ms, usable after {ready:.0f} ms")
    finally:
        daemon.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supervisord", required=True)
    parser.add_argument("--screenshots", default="target/web-screenshots")
    options = parser.parse_args()
    os.makedirs(options.screenshots, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="svweb-")
    browser = daemon = None
    failed = passed = 0
    try:
        browser = Browser(directory)
        daemon = Daemon(options.supervisord, directory, 4)
        checks = Checks(browser, daemon, options.screenshots)
        for name, check in vars(Checks).items():
            if name.startswith("_") or name in ("open", "state", "until_state"):
                continue
            try:
                check(checks)
                passed += 1
                print(f"ok      {name}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAILED  {name}: {error}", flush=True)
                browser.shot(f"{options.screenshots}/failed-{name}.png")
        many(browser, options.supervisord, directory)
    finally:
        if browser:
            browser.close()
        if daemon:
            daemon.end()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"web page: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
