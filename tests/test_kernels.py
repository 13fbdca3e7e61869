"""A lesson's kernel starts although one of the ports chosen for it has been taken meanwhile."""

from __future__ import annotations

import os
import socket

import pytest
from jupyter_client.manager import KernelManager
from nbval import kernel


def test_a_kernel_whose_port_is_taken_is_started_again(monkeypatch):
    taken: list[int] = []
    write = KernelManager.write_connection_file

    with socket.socket() as other:

        def write_and_take_a_port(self, **kwargs):
            write(self, **kwargs)
            if not taken:
                other.bind((self.ip, self.shell_port))
                other.listen()
                taken.append(self.shell_port)

        monkeypatch.setattr(KernelManager, "write_connection_file", write_and_take_a_port)
        with open(os.devnull, "w") as errors:
            manager, client = kernel.start_new_kernel(
                kernel_name=kernel.CURRENT_ENV_KERNEL_NAME, stderr=errors
            )
        try:
            assert taken
            assert client.shell_port not in taken
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def test_a_kernel_that_never_starts_is_an_error(monkeypatch):
    with pytest.raises(Exception, match="no_such_kernel"):
        kernel.start_new_kernel(kernel_name="no_such_kernel")
