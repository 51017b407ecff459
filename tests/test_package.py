import subprocess
import sys

import typed_sse


def test_the_public_names_are_sorted_and_exist() -> None:
    assert sorted(typed_sse.__all__) == typed_sse.__all__
    assert all(hasattr(typed_sse, name) for name in typed_sse.__all__)


def test_importing_the_package_imports_no_extra_and_touches_no_signal() -> None:
    program = (
        "import signal, sys; before = signal.getsignal(signal.SIGTERM); import typed_sse;"
        "extras = {'fastapi', 'uvicorn', 'prometheus_client', 'opentelemetry', 'sse_starlette'};"
        "assert not extras & set(sys.modules); assert signal.getsignal(signal.SIGTERM) is before"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
