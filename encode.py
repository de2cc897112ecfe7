"""Encode a database and its queries into fingerprints.

python encode.py FastMnistMosaic 10MDB ShannonHamming --build_index
python encode.py FastMnistMosaic 10MDB ShannonHamming --job_id 3 --nb_jobs 10   (then merge.py)
torchrun --nproc_per_node gpu encode.py FastMnistMosaic 10MDB ShannonHamming --build_index   (merges by itself)
"""

from equihash import distributed
from equihash.command_line import (
    add_device_argument,
    add_experiment_arguments,
    add_memory_argument,
    add_precision_argument,
    argument_parser,
    database_files_from_arguments,
    run,
)
from equihash.devices import select_device, select_precision
from equihash.errors import UserError
from equihash.fingerprints import build_index, encode_database
from equihash.process_settings import forbid_tf32, keep_freed_memory


def parse_arguments():
    parser = argument_parser(__doc__)
    add_experiment_arguments(parser)
    add_device_argument(parser)
    add_precision_argument(parser)
    parser.add_argument(
        "-f", "--flush_freq", type=int, default=20, metavar="N", help="chunks of 500 between two writes (default: 20)"
    )
    parser.add_argument("-j", "--job_id", type=int, metavar="N", help="encode only this share of the database, from 0")
    parser.add_argument("-n", "--nb_jobs", type=int, default=1, metavar="N", help="shares of the database")
    parser.add_argument("-b", "--build_index", action="store_true", help="build the inverted index afterwards")
    add_memory_argument(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.job_id is not None and args.build_index:
        raise UserError("the index is built of all shares: use --build_index with merge.py")
    files = database_files_from_arguments(args)
    keep_freed_memory()
    forbid_tf32()
    device = select_device(args.device)
    distributed.start()
    distributed.mute_all_but_first()
    precision = select_precision(args.precision, device)
    encode_database(files, device, precision, args.flush_freq, args.job_id, args.nb_jobs)
    share = "" if args.job_id is None else f"share {args.job_id} of {args.nb_jobs} of "
    print(f"{files.experiment}: {share}{files.database} encoded in {files.folder}")
    if args.build_index and distributed.is_first():
        build_index(files, memory_limit=args.memory_limit)


if __name__ == "__main__":
    run(main, "-n/--nb_jobs, for smaller shares; for the index, a smaller --memory_limit")
