"""The demo's load: clients that send requests without a break and check each response against what they wrote.

__main__   arguments, set-up, signals
endpoints  chooses the pod for a request, as a Gateway and kube-proxy do
client     HTTP over pooled connections, without retries
rows       the expected content of each row
traffic    the workers
stats      counts, latencies, and the report file
"""
