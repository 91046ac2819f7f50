"""A table to which two others point becomes partitioned, while clients write: how long anyone waits.

    python -m benchmarks.partitioning [--rows 1000000] [--clients 4] [--partitions 24]

The tables, the clients and what is printed are those of :mod:`benchmarks.key_widening`.
"""

import asyncio

from benchmarks.key_widening import build_parser, measure


def main() -> None:
    parser = build_parser()
    parser.add_argument("--partitions", type=int, default=24)
    options, _ = parser.parse_known_args()
    count = options.partitions
    partitions = {f"accounts_{number}": f"WITH (MODULUS {count}, REMAINDER {number})" for number in range(count)}
    operation = {"partition": {"table": "accounts", "by": "HASH (id)", "partitions": partitions}}
    result = "SELECT count(DISTINCT tableoid) || ' partitions hold rows' FROM accounts"
    asyncio.run(measure(options, operation, result))


if __name__ == "__main__":
    main()
