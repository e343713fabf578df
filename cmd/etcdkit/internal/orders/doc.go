// Package orders is a small service built on etcdkit, as one would write it: the one that etcdkit demo starts
// several processes of, and hurts.
//
// # Model
//
// A process of the service registers itself and greets every peer it discovers; follows its prices in etcd;
// stands for leader, and as leader keeps a report; and numbers orders under a lock, so that the book in
// etcd has every number once:
//
//	orders/config            the prices, as somebody has put them      package config
//	orders/leader/...        who leads, and who would                  package election
//	orders/numbering/...     who numbers, and who waits                package lock
//	orders/book/000017       an order, written under the lock's guard  package fence
//	orders/last              the highest number given
//	orders/report            the leader's, written under its term's guard
//	etcdkit/queue/orders/... mails, if it is observed                  package queue
//
// It tells what it does, an [Event] in JSON a line, and can be asked to keep the lock for a while.
//
// # Limits
//
// There are no customers. What is real is the coordination.
package orders
