import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from testground.drivers import trees


def test_files_links_trees_and_nothing(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(kept)
    for name in ("file", "link", "tree", "nothing"):
        trees.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == [kept]


def test_directories_without_permissions():
    """As of Go's module cache. For root all is permitted, so that somebody else has to do it."""
    with tempfile.TemporaryDirectory(prefix="testground-") as base:
        root = Path(base)
        root.chmod(0o777)
        script = (
            "import importlib.util, os, pathlib, sys\n"
            "spec = importlib.util.spec_from_file_location('trees', sys.argv[1])\n"
            "trees = importlib.util.module_from_spec(spec); spec.loader.exec_module(trees)\n"
            "tree = pathlib.Path(sys.argv[2], 'tree')\n"
            "for name in ('r-x', '---'):\n"
            "    (tree / name / 'below').mkdir(parents=True); (tree / name / 'below' / 'file').touch()\n"
            "    (tree / name / 'below').chmod(0o555)\n"
            "(tree / 'r-x').chmod(0o555); (tree / '---').chmod(0); tree.chmod(0o555)\n"
            "trees.remove(tree)\n"
        )
        module = root / "trees.py"
        module.write_text(Path(trees.__file__).read_text())
        module.chmod(0o644)
        python = _python_for_everybody() if os.geteuid() == 0 else sys.executable
        subprocess.run(
            [python, "-B", "-c", script, str(module), str(root)],
            check=True,
            timeout=20,
            user=65534 if os.geteuid() == 0 else None,
        )
        assert list(root.iterdir()) == [module]


def _python_for_everybody() -> str:
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("root may do everything, and there is no Python for another user")
    return python
