// Package etcdkit is a toolkit for coordinating processes with etcd v3. It holds no code: pick the package for
// the need.
//
//	one process at a time does a thing           lock        Mutex.Do, TryLock, Inspect
//	one process of many is in charge             election    Run, Campaign, Observe
//	services find each other                     registry    Register, Watch, NewPicker, NewTransport
//	gRPC connections follow a service            registry/grpcresolver    New
//	an orchestrator asks how the process is      health      Readiness, Liveness
//	a value changes while the process runs       config      Open
//	jobs are done by whoever is there            queue       Push, Work, Schedule, NewTopic
//	calls to etcd are tried again when it is safe retry      Do, Transient, Ambiguous
//
// Below them:
//
//	proof of ownership, for writes that must not come too late    fence     Guard, Token, Watermark
//	a lease that knows for how long it may be relied on           session   Open, Keeper
//	what bytes in etcd mean                                       codec     Auto, JSON, YAML
//
// Everything takes a *clientv3.Client and uses only its KV, Watcher and Lease fields, so that etcd's own wrappers
// (package namespace, for one) plug in.
//
// Two rules run through all of it. What a process owns (a lock, a term) ends, with a cause, before anybody else
// can own it, and never comes back by itself. What a process wants to be so (a registration, a watch, a
// configuration, a worker) repairs itself for ever.
package etcdkit
