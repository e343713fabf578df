package batch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// maxFailures is how many failures of transactions are kept in full: a cluster that refuses everything must not fill the
// memory of who asks only at the end.
const maxFailures = 16

// failures is what Flush and Close have to tell.
type failures struct {
	errs []error
	more int // keys whose failure is not among errs
}

// add keeps the failure of writes that share a fate, if it is one.
func (f *failures) add(writes []*write) {
	if len(writes) == 0 || writes[0].verdict == nil {
		return
	}
	if len(f.errs) >= maxFailures {
		f.more += len(writes)
		return
	}
	first := slices.MinFunc(writes, func(a, b *write) int { return cmp.Compare(a.seq, b.seq) })
	what := fmt.Sprintf("%.128q", first.key)
	if n := len(writes) - 1; n > 0 {
		what = fmt.Sprintf("%s and %d more keys", what, n)
	}
	f.errs = append(f.errs, fmt.Errorf("%w: %s: %w", first.verdict, what, first.reason))
}

// take returns the failures joined, or nil, and forgets them.
func (f *failures) take() error {
	errs := f.errs
	if f.more > 0 {
		errs = append(errs, fmt.Errorf("batch: and %d more keys that were not applied or may not have been", f.more))
	}
	*f = failures{}
	return errors.Join(errs...)
}
