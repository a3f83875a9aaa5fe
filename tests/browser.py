"""A real browser for tests of pages, driven over pipes; None where the system has none."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

PROGRAM = shutil.which('chromium') or shutil.which('google-chrome')


class Browser:
  """A headless Chromium with one open page; a context manager."""

  def __init__(self, folder: os.PathLike) -> None:
    to_browser, self._write = os.pipe()
    self._read, from_browser = os.pipe()
    flags = [
      '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--remote-debugging-pipe',
      f'--user-data-dir={folder}', '--disable-dev-shm-usage', '--hide-scrollbars',
    ]  # fmt: skip

    # Chromium reads from descriptor 3 and writes to 4.
    begin = (
      'import os, sys; one, other = (os.dup(int(n)) for n in sys.argv[1:3]); '
      'os.dup2(one, 3); os.dup2(other, 4); [os.set_inheritable(n, True) for n in (3, 4)]; '
      'os.execv(sys.argv[3], sys.argv[3:])'
    )
    words = [sys.executable, '-I', '-c', begin, str(to_browser), str(from_browser), PROGRAM, *flags]
    self._process = subprocess.Popen(
      words, pass_fds=(to_browser, from_browser),
      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_browser)
    os.close(from_browser)
    self._rest, self._number, self._session, self.events = b'', 0, None, []
    target = self.ask('Target.createTarget', url='about:blank')['targetId']
    found = self.ask('Target.attachToTarget', targetId=target, flatten=True)
    self._session = found['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.ask(f'{domain}.enable')

  def __enter__(self) -> 'Browser':
    return self

  def __exit__(self, *_: Any) -> None:
    self._process.kill()
    self._process.wait()
    os.close(self._write)
    os.close(self._read)

  def ask(self, method: str, **params: Any) -> dict[str, Any]:
    """Sends a command of the DevTools protocol; returns its result."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': params}
    message |= {'sessionId': self._session} if self._session else {}
    os.write(self._write, json.dumps(message).encode() + b'\0')
    while True:
      found = self._next()
      if found.get('id') == self._number:
        assert 'error' not in found, found
        return found['result']
      self.events.append(found)

  def _next(self) -> dict[str, Any]:
    while b'\0' not in self._rest:
      piece = os.read(self._read, 1 << 16)
      assert piece, 'the browser has ended'
      self._rest += piece
    message, self._rest = self._rest.split(b'\0', 1)
    return json.loads(message)

  def open(self, path: os.PathLike) -> None:
    """Opens a file, and waits until it is loaded."""
    self.events.clear()
    self.ask('Page.navigate', url=f'file://{path}')
    while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
      self.events.append(self._next())

  def value(self, script: str) -> Any:
    """Returns the value of a JavaScript expression on the page."""
    found = self.ask('Runtime.evaluate', expression=script, returnByValue=True)
    assert 'exceptionDetails' not in found, found
    return found['result'].get('value')

  def resize(self, width: int, height: int = 800) -> None:
    """Gives the page a size in pixels."""
    self.ask(
      'Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
      mobile=False,
    )  # fmt: skip

  def complaints(self) -> list[Any]:
    """Returns errors of the console, and requests for anything but the page itself."""
    found = [e for e in self.events if e.get('method') in ('Log.entryAdded',
             'Runtime.exceptionThrown')]  # fmt: skip
    urls = [e['params']['request']['url'] for e in self.events
            if e.get('method') == 'Network.requestWillBeSent']  # fmt: skip
    return found + [url for url in urls if not url.startswith('data:')][1:]
