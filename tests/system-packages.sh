#!/usr/bin/env bash
# The page tests drive a real Chromium. On Debian as root it is installed here; elsewhere
# install `chromium` by hand, or those tests say that they were skipped.
set -u
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing chromium"
  (apt-get update && apt-get install -y --no-install-recommends chromium) >/dev/null 2>&1 || echo "chromium could not be installed: page tests will be skipped"
fi
exit 0
