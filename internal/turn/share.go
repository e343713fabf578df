package turn

import (
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Unlimited is the size of a line that any number may share.
const Unlimited = -1

// Share is how much of a line a place takes. The zero Share is all of it: who takes that owns alone.
type Share struct {
	Size   int // how much there is, for all who share, or Unlimited
	Weight int // how much of it the place takes; at least 1 and at most Size
}

// A key that shares says so in its name, after a mark that sorts behind every lease. So all who do not share, in which form
// ever etcd's tools have put them, are one range of keys, and all who share by another size are two.
const (
	shareMark = "~"
	afterMark = "\x7f" // the byte after it
	sizeEnd   = "."
	afterSize = "/" // the byte after it
	slotMark  = "#"
	noLimit   = "r"
)

// String is the share in words.
func (s Share) String() string {
	switch {
	case s.alone():
		return "all"
	case s.Size == Unlimited:
		return "a reader"
	}
	return fmt.Sprintf("%d of %d permits", s.Weight, s.Size)
}

// alone reports whether the place tolerates no other.
func (s Share) alone() bool { return s == Share{} }

// size is the first part of the names of all keys that share by one size.
func (s Share) size() string {
	if s.Size == Unlimited {
		return shareMark + noLimit + sizeEnd
	}
	return shareMark + strconv.Itoa(s.Size) + sizeEnd
}

// keys is the prefix of the keys of places with this share.
func (s Share) keys(prefix string) string {
	if s.alone() {
		return prefix
	}
	return fmt.Sprintf("%s%s%d-", prefix, s.size(), s.Weight)
}

// inTheWay is the range of the keys that a place with the share may have to wait for.
func (s Share) inTheWay(prefix string) (from, to string) {
	if s.Size == Unlimited { // nobody who shares is
		return prefix, prefix + shareMark
	}
	return prefix, clientv3.GetPrefixRangeEnd(prefix)
}

// agreed are the conditions under which nobody shares the line by another size.
func (s Share) agreed(prefix string) []clientv3.Cmp {
	if s.alone() {
		return nil
	}
	mine := prefix + s.size()
	return []clientv3.Cmp{
		// Of a range, a comparison asks that every key meets it: none exists.
		clientv3.Compare(clientv3.CreateRevision(prefix+shareMark), "=", 0).WithRange(mine),
		clientv3.Compare(clientv3.CreateRevision(strings.TrimSuffix(mine, sizeEnd)+afterSize), "=", 0).WithRange(prefix + afterMark),
	}
}

// ShareOf reads a place's share from its key. What is written otherwise takes all.
func ShareOf(prefix, key string) Share {
	name, marked := strings.CutPrefix(key[len(prefix):], shareMark)
	size, rest, _ := strings.Cut(name, sizeEnd)
	weight, _, _ := strings.Cut(rest, "-")
	if !marked {
		return Share{}
	}
	s := Share{Size: Unlimited}
	if size != noLimit {
		s.Size, _ = strconv.Atoi(size) // 0 if it is no number: no key is written so
	}
	s.Weight, _ = strconv.Atoi(weight)
	if s.Weight < 1 || s.Size != Unlimited && s.Weight > s.Size || !strings.HasPrefix(key, s.keys(prefix)) {
		return Share{}
	}
	return s
}

// isSlot reports whether the key numbers a place instead of being one.
func isSlot(prefix, key string) bool {
	name, marked := strings.CutPrefix(key[len(prefix):], shareMark)
	_, rest, _ := strings.Cut(name, sizeEnd)
	return marked && strings.HasPrefix(rest, slotMark)
}

// filling counts how many places of a line own, given in the order in which they came: the first always, and those after it
// as long as they share by the same size and there is room. The first that must wait holds back all after it, so that
// a large share is not passed by small ones for ever.
type filling struct {
	size, taken int
	full        bool
}

// add takes in the next place and reports whether it owns.
func (f *filling) add(s Share) bool {
	switch {
	case f.full:
		return false
	case s.alone():
		f.full = true
		return f.taken == 0
	case f.taken == 0:
		f.size = s.Size
	case s.Size != f.size:
		f.full = true
		return false
	}
	if f.size != Unlimited && f.taken+s.Weight > f.size {
		f.full = true
		return false
	}
	f.taken += s.Weight
	return true
}
