"""Lets accelerate share a model out over processes of a CPU, for the tests.

It does so for GPUs only, though torch can over gloo, too. Python imports this file by itself, where it is on the path.
"""

import os

if os.environ.get("ACCELERATE_USE_FSDP") == "true" and "RANK" in os.environ:
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    _made = AcceleratorState.__init__

    def _make(self, *args, fsdp_plugin=None, **more):  # type: ignore[no-untyped-def]
        _made(self, *args, fsdp_plugin=fsdp_plugin, **more)
        if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = _make
