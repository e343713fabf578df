package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/follow"
)

const (
	// maxRefused is how many refused documents an error names; of the others it gives the number.
	maxRefused = 10

	// maxShown is how much of a key's name an error shows.
	maxShown = 200
)

// mapState is where a Map stands. It is a step from the state before and what was written down, and never changes.
type mapState[T any] struct {
	entries    []*MapEntry[T] // first, so that Get loads it from where the pointer points
	revision   int64
	generation int64

	serial  int64 // of the page that this accounts for, and its number
	number  int64
	refused int   // how many documents are
	bad     error // names them; nil if there are none
	cut     error // why the keys are not followed at present
	err     error // what Err says
}

// mapRefusal is why the newest document of a key is not taken.
type mapRefusal struct {
	revision int64 // of the document
	kept     int64 // of the one that stays; 0 if there is none
	why      error
}

// mapJudge makes entries of documents, and remembers those that were refused. It belongs to the Map's goroutine.
type mapJudge[T any] struct {
	prefix  string
	reader  reader[T]
	log     *zap.Logger
	refused map[string]mapRefusal // by name
}

// next is the state after a page was taken in. Each document in it is read once. It reports false if life has ended
// before all were.
func (j *mapJudge[T]) next(life context.Context, s *mapState[T], p mapMail) (mapState[T], bool) {
	n := *s
	n.revision, n.generation, n.serial, n.number, n.cut = p.revision, p.generation, p.serial, p.number, p.cut
	if len(p.newest) > 0 {
		var edits []mapEdit[T]
		for _, name := range slices.Sorted(maps.Keys(p.newest)) {
			if life.Err() != nil {
				return n, false
			}
			if e, changed := j.edit(s.entries, name, p); changed {
				edits = append(edits, e)
			}
		}
		n.entries = mergeEntries(s.entries, edits)
		n.refused, n.bad = len(j.refused), j.bad()
	}
	n.err = j.why(&n)
	return n, true
}

// edit reads what became of a key, and reports whether that changes the list.
func (j *mapJudge[T]) edit(list []*MapEntry[T], name string, p mapMail) (mapEdit[T], bool) {
	at, there := searchEntries(list, name)
	before, hurt := j.refused[name]
	delete(j.refused, name)
	document := p.newest[name]
	if document == nil {
		return mapEdit[T]{name: name}, there
	}
	value, err := j.reader.read([]*follow.Entry{document})
	if err != nil {
		r := mapRefusal{revision: document.ModRevision, why: err}
		if there {
			r.kept = list[at].Revision
		}
		j.refused[name] = r
		j.log.Warn("document not taken", zap.Error(r.line(name)))
		countRejected(j.prefix)
		return mapEdit[T]{}, false
	}
	if hurt {
		j.log.Info("document taken after one that was not", zap.String("name", shown(name)),
			zap.Int64("revision", document.ModRevision), zap.Int64("refused", before.revision))
	}
	return mapEdit[T]{name, &MapEntry[T]{Name: name, Value: value, Revision: document.ModRevision}}, true
}

// bad is the error about all documents that are refused.
func (j *mapJudge[T]) bad() error {
	if len(j.refused) == 0 {
		return nil
	}
	var lines []error
	names := slices.Sorted(maps.Keys(j.refused))
	for _, name := range names[:min(len(names), maxRefused)] {
		lines = append(lines, j.refused[name].line(name))
	}
	if more := len(names) - maxRefused; more > 0 {
		lines = append(lines, fmt.Errorf("%w: of %d more keys", ErrRefused, more))
	}
	return errors.Join(lines...)
}

// why is what Err says of a state.
func (j *mapJudge[T]) why(s *mapState[T]) error {
	var cut error
	if s.cut != nil {
		cut = fmt.Errorf("%w: %w", ErrNotCurrent, s.cut)
	}
	if err := errors.Join(cut, s.bad); err != nil {
		return fmt.Errorf("config %q: %w", j.prefix, err)
	}
	return nil
}

// line is the error about one document.
func (r mapRefusal) line(name string) error {
	stays := "the key is left out"
	if r.kept > 0 {
		stays = fmt.Sprintf("the document of revision %d stays in use", r.kept)
	}
	return fmt.Errorf("%w: %q at revision %d: %w; %s", ErrRefused, shown(name), r.revision, r.why, stays)
}

// shown is as much of a name as is shown.
func shown(name string) string {
	if len(name) <= maxShown {
		return name
	}
	end := maxShown
	for !utf8.RuneStart(name[end]) && end > maxShown-utf8.UTFMax {
		end--
	}
	return name[:end] + "…"
}
