"""The store's laws explain themselves when one fails: their asserts are rewritten like those of tests."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("remanence.testing.conformance")
