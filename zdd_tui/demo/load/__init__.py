"""The demo's load: users that never stop, checking every answer against what they wrote before.

__main__   arguments, wiring, signals
gateway    which Service a request goes to, by an HTTPRoute's weights
endpoints  which pods may receive requests, as kube-proxy would choose
client     HTTP over pooled connections, without any retry
ledger     what each user row must look like
traffic    the workers
stats      counts, latencies, and the file that others read
"""
