"""What instances a network takes."""

from equihash.errors import UserError


def check_fit(network, instances, fits, takes):
    """Raise a `UserError` unless `fits`, a bool; it says what the network `takes`, a dtype and a shape as text."""
    if not fits:
        found = f"{str(instances.dtype).removeprefix('torch.')} (..., {', '.join(map(str, instances.shape[1:]))})"
        raise UserError(
            f"{type(network).__name__} takes instances {takes}, not {found}: change network_class or loader_kwargs"
        )
