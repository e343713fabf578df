// Package migrating holds the programs that people copy from tutorials, each beside its form with etcdkit, for docs/migrating.md: what
// the page shows is in the files old_*.go, new_*.go and both_*.go, line for line, and runs in this package's tests.
package migrating
