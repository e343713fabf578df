// Package bench measures etcdkit's recipes beside those that etcd ships, in the same run on the same cluster. The
// machines such figures come from differ and are noisy: a figure by itself says nothing, only the ratio of
// two from one run does.
//
// Sub-benchmarks are named .../impl=etcdkit and .../impl= the other side (concurrency; for package batch puts, one by one, and
// raw transactions; for queues these and recipes), so that benchstat puts them side by side:
//
//	go test -run='^$' -bench=. -count=6 ./integration/bench | tee bench.txt
//	benchstat -col /impl bench.txt
//
// Queues are 2,000 jobs deep at most, unless ETCDKIT_QUEUE_DEPTH says how deep.
package bench
