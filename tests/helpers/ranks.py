"""Several ranks on one machine: processes forked from one that has imported everything already."""

import multiprocessing
import os
import pickle  # multiprocessing's own shares the memory of tensors, which goes with the process
import socket
import traceback

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["sparsify.retrain", "sparsify.pass_manager", "sparsify.methods.dst", "torch._dynamo", "torch.distributed.fsdp"]
)
LONGEST = 60  # seconds


def together(count, job, *args):
    """Run a function of `helpers.rank_jobs` in several ranks; return what each returns, or of what it died."""
    port = free_port()
    pipes, processes = [], []
    for rank in range(count):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        processes.append(CONTEXT.Process(target=_run, args=(theirs, (rank, count, port), job, pickle.dumps(args))))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    return [_answer(pipe, process) for pipe, process in zip(pipes, processes, strict=True)]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _run(pipe, place, job, args):
    rank, count, port = place
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
                      LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))  # fmt: skip
    torch.set_num_threads(1)
    try:
        pipe.send_bytes(pickle.dumps(job(*pickle.loads(args))))
    except BaseException as error:  # noqa: BLE001 -- the test looks at it
        traceback.print_exc()
        pipe.send_bytes(pickle.dumps(error))


def _answer(pipe, process):
    try:
        found = pickle.loads(pipe.recv_bytes()) if pipe.poll(LONGEST) else TimeoutError("a rank hangs")
    except EOFError:
        found = None
    process.join(10)
    if process.is_alive():
        process.kill()
    if isinstance(found, BaseException):
        return found
    return f"exit {process.exitcode}" if found is None and process.exitcode else found
