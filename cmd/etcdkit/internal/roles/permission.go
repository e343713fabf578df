package roles

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Access is what may be done.
type Access string

// Accesses, by the words of etcdctl.
const (
	Read      Access = "read"
	Write     Access = "write"
	ReadWrite Access = "readwrite"
)

// has reports whether an access includes another one, which is Read or Write.
func (a Access) has(other Access) bool { return a == other || a == ReadWrite }

// Type is the access as etcd's client takes it.
func (a Access) Type() clientv3.PermissionType {
	switch a {
	case Read:
		return clientv3.PermissionType(clientv3.PermRead)
	case Write:
		return clientv3.PermissionType(clientv3.PermWrite)
	default:
		return clientv3.PermissionType(clientv3.PermReadWrite)
	}
}

// Permission is the right to a key, or to a range of them.
type Permission struct {
	Access Access

	// Key is the key or the first of a range, and End the first behind it, as etcd has them: "" if it is one key, "\x00" if there is
	// no end.
	Key, End string

	// For says what it is needed for; "" if it was not made by a Recipe.
	For string
}

// Prefix reports whether the permission is for all keys that begin with Key.
func (p Permission) Prefix() bool { return p.End != "" && p.End == clientv3.GetPrefixRangeEnd(p.Key) }

// Everything reports whether the permission is for all keys there are.
func (p Permission) Everything() bool { return p.End == open && (p.Key == "" || p.Key == open) }

// open is the end of a range that has none.
const open = "\x00"

func key(a Access, key, why string) Permission { return Permission{Access: a, Key: key, For: why} }

func prefix(a Access, prefix, why string) Permission {
	return Permission{Access: a, Key: prefix, End: clientv3.GetPrefixRangeEnd(prefix), For: why}
}

// Tenant is the permission that confines a user to a namespace.
func Tenant(namespace string) Permission {
	return prefix(ReadWrite, namespace, "all keys of the namespace")
}

// Within returns permissions as a client needs them whose keys are put into a namespace (pool.Config.Namespace).
func Within(namespace string, all []Permission) []Permission {
	if namespace == "" {
		return all
	}
	within := slices.Clone(all)
	for i, p := range all {
		within[i].Key = namespace + p.Key
		if p.End != "" {
			within[i].End = clientv3.GetPrefixRangeEnd(within[i].Key) // a recipe's ranges are prefixes
		}
	}
	return within
}

// FromEtcd returns permissions of a role, as etcd tells them.
func FromEtcd(all []*authpb.Permission) []Permission {
	perms := make([]Permission, 0, len(all))
	for _, p := range all {
		access := ReadWrite
		switch p.GetPermType() {
		case authpb.READ:
			access = Read
		case authpb.WRITE:
			access = Write
		default:
		}
		perms = append(perms, Permission{Access: access, Key: string(p.GetKey()), End: string(p.GetRangeEnd())})
	}
	return perms
}

// Allows reports whether permissions, taken together, include another one.
func Allows(have []Permission, want Permission) bool {
	for _, a := range []Access{Read, Write} {
		if want.Access.has(a) && !covers(have, a, want) {
			return false
		}
	}
	return true
}

// Excess returns those of some permissions that nothing of what is needed lies in.
func Excess(have, needed []Permission) []Permission {
	var excess []Permission
	for _, h := range have {
		if !slices.ContainsFunc(needed, func(n Permission) bool {
			return (h.Access.has(Read) && n.Access.has(Read) || h.Access.has(Write) && n.Access.has(Write)) && h.overlaps(n)
		}) {
			excess = append(excess, h)
		}
	}
	return excess
}

// span is the range as two keys, of which the second is not in it; "" is behind all keys.
func (p Permission) span() (from, to string) {
	switch p.End {
	case "":
		return p.Key, p.Key + "\x00"
	case open:
		return p.Key, ""
	}
	return p.Key, p.End
}

func (p Permission) overlaps(other Permission) bool {
	from, to := p.span()
	otherFrom, otherTo := other.span()
	return (otherTo == "" || from < otherTo) && (to == "" || otherFrom < to)
}

// covers reports whether the ranges of those permissions that have an access include a range, as etcd reckons: several may do it together.
func covers(have []Permission, a Access, want Permission) bool {
	var some []Permission
	for _, p := range have {
		if p.Access.has(a) {
			some = append(some, p)
		}
	}
	slices.SortFunc(some, func(a, b Permission) int { return cmp.Compare(a.Key, b.Key) })
	at, end := want.span()
	for _, p := range some {
		from, to := p.span()
		switch {
		case from > at:
			return false
		case to == "":
			return true
		case to > at:
			at = to
		}
		if end != "" && at >= end {
			return true
		}
	}
	return false
}
