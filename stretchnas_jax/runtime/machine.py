"""What a figure was measured on."""

import os
import pathlib
import platform

HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
ASK_FOR_HUGE_PAGES = 'GLIBC_TUNABLES=glibc.malloc.hugetlb=1'


def facts():
  """`{'cpu', 'cores'}`; devices are named in a run's `run.json` beside it."""
  return {'cpu': cpu_model(), 'cores': os.cpu_count()}


def cpu_model():
  path = pathlib.Path('/proc/cpuinfo')
  for line in path.read_text('utf-8').splitlines() if path.exists() else ():
    if line.startswith('model name'):
      return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def lacks_huge_pages(environment=os.environ):
  """Whether large arrays would lie in huge pages if glibc asked Linux for them, and do not.

  XLA takes the temporary memory of a CPU's step from malloc anew each time, so that every 4 KiB of
  it are a page fault, and an entry that a processor has to look up.
  """
  library, number = platform.libc_ver()
  knows = library == 'glibc' and tuple(map(int, number.split('.')[:2])) >= (2, 35)
  on_request = HUGE_PAGES.exists() and '[madvise]' in HUGE_PAGES.read_text('utf-8')
  return (
    knows and on_request and 'glibc.malloc.hugetlb' not in environment.get('GLIBC_TUNABLES', '')
  )
