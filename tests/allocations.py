"""Bytes that a computation holds at once, as PyTorch's allocator counts them."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(step: Callable[[], object]) -> int:
    """Returns the bytes that a call held at once beyond what it was given, on the CPU.

    Args:
        step: the call.

    Returns:
        Bytes.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.experimental_event_tree()
    allocations = []
    while events:
        event = events.pop()
        events.extend(event.children)
        if event.tag.name == "Allocation":
            allocations.append((event.start_time_ns, event.extra_fields.alloc_size))
    held = peak = 0
    for _, size in sorted(allocations, key=lambda one: one[0]):
        held += size
        peak = max(peak, held)
    return peak
