// Package capacity counts what docs/capacity.md says that recipes cost etcd. The numbers are the page's: its tests read them from there.
package capacity
