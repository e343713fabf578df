package config

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// decimal is a codec of ints that counts what it decodes.
type decimal struct{ decoded *int }

func (d decimal) Decode(data []byte) (int, error) {
	if d.decoded != nil {
		*d.decoded++
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return 0, errors.New("not a number")
	}
	return n, nil
}

func (decimal) Encode(n int) ([]byte, error) { return []byte(strconv.Itoa(n)), nil }

// put is a document as etcd holds it.
func put(revision int64, text string) *follow.Entry {
	return &follow.Entry{Key: []byte("port"), Value: []byte(text), ModRevision: revision}
}

// holds is the content of a key that holds a document.
func holds(document *follow.Entry) content { return contentOf([]*follow.Entry{document}) }

// accepting reads documents as a Value without subscribers does.
func accepting(c codec.Codec[int], validate func(int) error) func(int, content) (int, error) {
	r := reader[int]{form: document(c, nil, ""), validate: validate}
	return func(_ int, c content) (int, error) { return r.read(c.entries) }
}

// positive is a Validate.
func positive(n int) error {
	if n < 1 {
		return errors.New("must be positive")
	}
	return nil
}

var errCut = errors.New("connection refused")

// Each case is a history of the key and of the connection, and where it ends.
func TestAValueStaysAtTheLastGoodDocumentAndSaysWhy(t *testing.T) {
	good := heard{content: holds(put(5, "80")), at: 5, serial: 1}
	for _, c := range []struct {
		name    string
		initial int // the default; 0 for none
		history []heard

		value      int
		revision   int64
		generation int64
		source     Source
		is         error
		says       []string
	}{{
		name:    "a good document",
		history: []heard{good},
		value:   80, revision: 5, source: Live,
	}, {
		name:    "a document instead of the default",
		initial: 1,
		history: []heard{{at: 4, serial: 1}, {content: holds(put(5, "80")), at: 5, serial: 2}},
		value:   80, revision: 5, source: Live,
	}, {
		name:    "a document that does not decode",
		history: []heard{good, {content: holds(put(6, "eighty")), at: 6, serial: 2}},
		value:   80, revision: 5, source: Stale, is: ErrRefused, says: []string{"revision 6", "not a number"},
	}, {
		name:    "a document that Validate refuses",
		history: []heard{good, {content: holds(put(6, "-1")), at: 6, serial: 2}},
		value:   80, revision: 5, source: Stale, is: ErrRefused, says: []string{"revision 6", "must be positive"},
	}, {
		name:    "a bad document healed",
		history: []heard{good, {content: holds(put(6, "-1")), at: 6, serial: 2}, {content: holds(put(7, "81")), at: 7, serial: 3}},
		value:   81, revision: 7, source: Live,
	}, {
		name:    "a first document that is bad, with a default",
		initial: 1,
		history: []heard{{content: holds(put(5, "x")), at: 5, serial: 1}},
		value:   1, source: Default, is: ErrRefused, says: []string{"revision 5"},
	}, {
		name:    "an absent key, with a default",
		initial: 1,
		history: []heard{{at: 4, serial: 1}},
		value:   1, source: Default, is: ErrAbsent, says: []string{"revision 4", "default"},
	}, {
		name:    "a bad document deleted, with a default",
		initial: 1,
		history: []heard{{content: holds(put(5, "x")), at: 5, serial: 1}, {at: 6, serial: 2}},
		value:   1, source: Default, is: ErrAbsent, says: []string{"revision 6", "default"},
	}, {
		name:    "a deleted key",
		initial: 1,
		history: []heard{good, {at: 6, serial: 2}},
		value:   80, revision: 5, source: Stale, is: ErrAbsent, says: []string{"deleted", "revision 6", "revision 5"},
	}, {
		name:    "a deleted key put again",
		history: []heard{good, {at: 6, serial: 2}, {content: holds(put(7, "80")), at: 7, serial: 3}},
		value:   80, revision: 7, source: Live,
	}, {
		name:    "cut off",
		history: []heard{good, {content: good.content, at: 5, serial: 1, cut: errCut}},
		value:   80, revision: 5, source: Stale, is: ErrNotCurrent, says: []string{errCut.Error()},
	}, {
		name:    "cut off after a bad document",
		history: []heard{good, {content: holds(put(6, "-1")), at: 6, serial: 2, cut: errCut}},
		value:   80, revision: 5, source: Stale, is: ErrRefused, says: []string{errCut.Error(), ErrNotCurrent.Error(), "revision 6"},
	}, {
		name:    "cut off and back",
		history: []heard{good, {content: good.content, at: 5, serial: 1, cut: errCut}, good},
		value:   80, revision: 5, source: Live,
	}, {
		name:    "history turned back",
		history: []heard{good, {content: holds(put(3, "79")), at: 3, serial: 2, generation: 1}},
		value:   79, revision: 3, generation: 1, source: Live,
	}, {
		name:    "history turned back to the same document",
		history: []heard{good, {content: good.content, at: 5, serial: 1, generation: 1}},
		value:   80, revision: 5, generation: 1, source: Live,
	}, {
		name:    "history turned back to a bad document",
		history: []heard{good, {content: holds(put(3, "x")), at: 3, serial: 2, generation: 1}, {content: holds(put(3, "x")), at: 3, serial: 2, generation: 2}},
		value:   80, revision: 5, generation: 0, source: Stale, is: ErrRefused, says: []string{"revision 3"},
	}} {
		t.Run(c.name, func(t *testing.T) {
			s := &state[int]{value: c.initial, fallback: c.initial != 0, cut: errUnread}
			for _, h := range c.history {
				n := s.next(accepting(decimal{}, positive), h)
				s = &n
			}
			err := s.why("port")
			if s.value != c.value || s.revision != c.revision || s.generation != c.generation {
				t.Errorf("value %d of revision %d, generation %d", s.value, s.revision, s.generation)
			}
			if got := s.source(err); got != c.source {
				t.Errorf("source %v, want %v", got, c.source)
			}
			if !errors.Is(err, c.is) {
				t.Errorf("error %v, want %v", err, c.is)
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q does not say %q", err, word)
				}
			}
			if (err == nil) != (c.source == Live) {
				t.Errorf("source %v beside error %v", c.source, err)
			}
		})
	}
}

// Revisions compare within one generation. A copy may be from before a restore, of which nothing tells but what etcd has.
func TestACopyThatEtcdContradictsIsOfAnotherGeneration(t *testing.T) {
	for _, c := range []struct {
		name       string
		heard      heard
		generation int64
	}{
		{"the same document", heard{content: holds(put(5, "80")), at: 7, serial: 1}, 0},
		{"a newer one", heard{content: holds(put(6, "81")), at: 6, serial: 1}, 0},
		{"an older one", heard{content: holds(put(4, "79")), at: 7, serial: 1}, 1},
		{"another one at the same revision", heard{content: holds(put(5, "81")), at: 5, serial: 1}, 1},
		{"a bad one, at an older revision", heard{content: holds(put(4, "x")), at: 4, serial: 1}, 1},
		{"none, at an older revision", heard{at: 4, serial: 1}, 1},
		{"none any more", heard{at: 6, serial: 1}, 0},
		{"the value of a rollout that began before it", heard{content: content{entries: []*follow.Entry{put(4, "79")}, revision: 4, rollout: "r"}, at: 7, serial: 1}, 0},
	} {
		s := state[int]{value: 80, revision: 5, entries: holds(put(5, "80")).entries, disk: time.Now(), cut: errUnread}
		s = s.next(accepting(decimal{}, nil), heard{cut: errUnread})
		s = s.next(accepting(decimal{}, nil), c.heard)
		if s.disk.IsZero() && s.generation != c.generation {
			t.Errorf("%s: revision %d of generation %d, want %d", c.name, s.revision, s.generation, c.generation)
		}
		s = s.next(accepting(decimal{}, nil), heard{content: holds(put(9, "90")), at: 9, serial: 2})
		if s.value != 90 || s.generation != c.generation {
			t.Errorf("%s, and then a good document: generation %d, want %d", c.name, s.generation, c.generation)
		}
	}
}

func TestADocumentIsReadOnce(t *testing.T) {
	decoded := 0
	accept := accepting(decimal{&decoded}, nil)
	bad := heard{content: holds(put(5, "x")), at: 5, serial: 1}
	s := &state[int]{}
	for _, cut := range []error{nil, errCut, errCut, nil} {
		bad.cut = cut
		n := s.next(accept, bad)
		s = &n
	}
	if decoded != 1 {
		t.Errorf("decoded %d times", decoded)
	}
}

func TestSourcesHaveNames(t *testing.T) {
	for source, want := range map[Source]string{Live: "live", Stale: "stale", Disk: "disk", Default: "default", 0: "unknown"} {
		if got := source.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
