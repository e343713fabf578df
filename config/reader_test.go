package config

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/codec"
)

// A panic refuses the document and no more. What it says may be the document: regexp.MustCompile repeats the pattern.
func TestAPanicRefusesTheDocumentAndKeepsItsText(t *testing.T) {
	secret := "(hunter2"
	var list []int
	for name, c := range map[string]struct {
		validate func(int) error
		says     []string
	}{
		"of a library": {
			func(int) error { regexp.MustCompile(secret); return nil },
			[]string{"regexp.MustCompile (regexp.go:", "with a string"},
		},
		"with an error": {
			func(int) error { panic(errors.New(secret)) },
			[]string{"reader_test.go:", "with a *errors.errorString"},
		},
		"of the runtime": {
			func(n int) error { list[n]++; return nil },
			[]string{"reader_test.go:", "index out of range [7] with length 0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := reader[int]{form: document(codec.Codec[int](decimal{}), nil, ""), validate: c.validate}.read(holds(put(1, "7")).entries)
			if err == nil {
				t.Fatal("the document was taken")
			}
			for _, word := range append(c.says, "Validate panicked in ") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q does not say %q", err, word)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q says too much", err)
			}
		})
	}
}

// broken is a type whose own decoding panics.
type broken struct{}

func (broken) Decode([]byte) (int, error) { panic(errors.New("hunter2")) }
func (broken) Encode(int) ([]byte, error) { return nil, nil }

func TestAPanicInDecodingRefusesTheDocument(t *testing.T) {
	_, err := reader[int]{form: document(codec.Codec[int](broken{}), nil, "")}.read(holds(put(1, "8")).entries)
	if err == nil || !strings.HasPrefix(err.Error(), "decoding panicked in github.com/etcdkit/etcdkit/config.broken.Decode (reader_test.go:") {
		t.Errorf("got %v", err)
	}
}

func TestWhatValidateSaysIsWrapped(t *testing.T) {
	want := errors.New("must be odd")
	_, err := reader[int]{form: document(codec.Codec[int](decimal{}), nil, ""), validate: func(int) error { return want }}.read(holds(put(1, "8")).entries)
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
