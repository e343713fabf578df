package codec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const sealPath = "/config/prod/mail"

// secret is a key of 32 bytes that depends on n.
func secret(n byte) []byte { return bytes.Repeat([]byte{n, 0xa5}, KeySize/2) }

func mustRing(t testing.TB, current string, ids ...string) *Keyring {
	t.Helper()
	keys := map[string][]byte{}
	for _, id := range append(ids, current) {
		keys[id] = secret(id[len(id)-1])
	}
	ring, err := NewKeyring(current, keys)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func mustSeal(t testing.TB, ring *Keyring, path, plain string) []byte {
	t.Helper()
	sealed, err := ring.Seal(path, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestWhatIsSealedIsOpened(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "k1")
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(r.Uint32())
		}
		path := "/config/" + strings.Repeat("é/", n%7) + "x"
		sealed := mustSeal(t, ring, path, string(plain))
		if f := checkText(sealed); f != nil || bytes.ContainsAny(sealed, " \t\r\n\"'\\") || !bytes.HasPrefix(sealed, []byte("etcdkit:sealed:v1:k1:")) {
			t.Errorf("%q is not plain text: %+v", sealed, f)
		}
		if n > 3 && bytes.Contains(sealed, plain) {
			t.Errorf("%q has %q in it", sealed, plain)
		}
		for _, end := range []string{"", "\n", "\r\n"} { // as editors and echo leave it
			got, err := ring.Open(path, append(bytes.Clone(sealed), end...))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%q became %q became %q (%v)", plain, sealed, got, err)
			}
		}
		if id, ok := KeyID(sealed); !ok || id != "k1" || !IsSealed(sealed) {
			t.Errorf("%q: %q, %v", sealed, id, ok)
		}
	}
}

func TestASealedValueThatWasChangedAnywhereDoesNotOpen(t *testing.T) {
	t.Parallel()
	// Two keys whose IDs differ in a bit, so that a flip in the ID finds a key too.
	ring := mustRing(t, "k1", "k0", "k3", "k5", "k9")
	for n := range 5 { // each length of the base64's last group
		sealed := mustSeal(t, ring, sealPath, strings.Repeat("x", n))
		for i := range sealed {
			for bit := range 8 {
				changed := bytes.Clone(sealed)
				changed[i] ^= 1 << bit
				refused(t, ring, sealPath, changed)
			}
			for _, with := range []string{"", "\n", "\r", "=", "A", ":", " "} { // removed, replaced, inserted
				refused(t, ring, sealPath, []byte(string(sealed[:i])+with+string(sealed[i+1:])), string(sealed))
				if i > 0 {
					refused(t, ring, sealPath, []byte(string(sealed[:i])+with+string(sealed[i:])), string(sealed))
				}
			}
		}
		for cut := range sealed {
			refused(t, ring, sealPath, sealed[:cut])
		}
		for _, more := range []string{"A", "AAAA", "=", "==", " ", "\n\n", "\r", "\n\r\n", "\x00"} {
			refused(t, ring, sealPath, []byte(string(sealed)+more))
		}
	}
}

// refused checks that a value does not open, unless it is equal to one of same.
func refused(t *testing.T, ring *Keyring, path string, data []byte, same ...string) {
	t.Helper()
	if slices.Contains(same, string(data)) {
		return
	}
	plain, err := ring.Open(path, data)
	if err == nil || plain != nil {
		t.Errorf("%q was opened: %q", data, plain)
		return
	}
	if !errors.Is(err, ErrNotSealed) && !errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrNotOpened) {
		t.Errorf("%q: %v", data, err)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Op != "open" || e.Format != "sealed" || e.Rule == "" {
		t.Errorf("%q: %#v", data, err)
	}
}

func TestASealedValueDoesNotOpenUnderAnotherPath(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "k1", "k2")
	sealed := mustSeal(t, ring, sealPath, "x")
	for _, path := range []string{"", "/", "config/prod/mail", "/config/prod/mail/", "/config/prod/mai", "/config/prod/Mail", "/config/dev/mail", "mail", "/config/prod/mail\x00"} {
		if plain, err := ring.Open(path, sealed); !errors.Is(err, ErrNotOpened) || plain != nil {
			t.Errorf("%q: %q, %v", path, plain, err)
		}
	}
	// The ID and the path are told apart in what is authenticated: no part of one passes for the other.
	renamed := bytes.Replace(sealed, []byte(":k1:"), []byte(":k:"), 1)
	other, err := NewKeyring("k", map[string][]byte{"k": secret('1')})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"1:" + sealPath, "1" + sealPath, sealPath} {
		if _, err := other.Open(path, renamed); !errors.Is(err, ErrNotOpened) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := ring.Seal("", []byte("x")); err == nil || !strings.Contains(err.Error(), ruleNoPath) {
		t.Error(err)
	}
}

func TestAnOldKeyStillOpensAfterARotation(t *testing.T) {
	t.Parallel()
	before, after := mustRing(t, "2026-05"), mustRing(t, "2026-11", "2026-05")
	old := mustSeal(t, before, sealPath, "x")
	if plain, err := after.Open(sealPath, old); err != nil || string(plain) != "x" {
		t.Errorf("%q, %v", plain, err)
	}
	if id, ok := KeyID(old); !ok || id == after.Current() {
		t.Errorf("%q, %v: nothing tells that it has to be sealed again", id, ok)
	}
	sealed := mustSeal(t, after, sealPath, "x")
	if id, ok := KeyID(sealed); !ok || id != "2026-11" || id != after.Current() {
		t.Errorf("%q, %v", id, ok)
	}
	_, err := before.Open(sealPath, sealed)
	if want := "codec: open: sealed: sealed with key 2026-11, which the keyring does not have"; !errors.Is(err, ErrUnknownKey) || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}

	// Another key of the same ID.
	other, err := NewKeyring("2026-11", map[string][]byte{"2026-11": secret('z')})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(sealPath, sealed); !errors.Is(err, ErrNotOpened) {
		t.Error(err)
	}
}

func TestWhatIsNotSealedIsRefused(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "k1")
	for data, want := range map[string]error{
		"":                            ErrNotSealed,
		"x":                           ErrNotSealed,
		`{"password": "x"}`:           ErrNotSealed,
		" etcdkit:sealed:v1:k1:":      ErrNotSealed,
		"\ufeffetcdkit:sealed:v1:k1:": ErrNotSealed,
		"ETCDKIT:sealed:v1:k1:":       ErrNotSealed,
		"etcdkit:sealed":              ErrNotSealed,
		"etcdkit:sealed:":             ErrNotOpened,
		"etcdkit:sealed:v2:k1:AAAA":   ErrNotOpened,
		"etcdkit:sealed:v1":           ErrNotOpened,
		"etcdkit:sealed:v1:":          ErrNotOpened,
		"etcdkit:sealed:v1:k1":        ErrNotOpened,
		"etcdkit:sealed:v1::AAAA":     ErrNotOpened,
		"etcdkit:sealed:v1:k 1:AAAA":  ErrNotOpened,
		"etcdkit:sealed:v1:k1:":       ErrNotOpened,
		"etcdkit:sealed:v1:k1:AAAA":   ErrNotOpened,
		"etcdkit:sealed:v1:k1:A":      ErrNotOpened,
		"etcdkit:sealed:v1:k1:AA==":   ErrNotOpened,
		"etcdkit:sealed:v1:k1:+/+/":   ErrNotOpened,
		"etcdkit:sealed:v1:k2:AAAA":   ErrUnknownKey,
		"etcdkit:sealed:v1:k1:" + strings.Repeat("A", MaxSize):           ErrNotOpened,
		"etcdkit:sealed:v1:" + strings.Repeat("k", maxKeyID) + ":AAAA":   ErrUnknownKey,
		"etcdkit:sealed:v1:" + strings.Repeat("k", maxKeyID+1) + ":AAAA": ErrNotOpened,
	} {
		if plain, err := ring.Open(sealPath, []byte(data)); !errors.Is(err, want) || plain != nil {
			t.Errorf("%.50q: got %q, %v, want %v", data, plain, err, want)
		}
		v, err := Sealed(ring, sealPath, Auto[string]()).Decode([]byte(data))
		if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, want) || v != "" || e.Op != "decode" || e.Type != "string" || e.Format != "sealed" {
			t.Errorf("%.50q: got %q, %#v, want %v", data, v, err, want)
		}
		if IsSealed([]byte(data)) == errors.Is(want, ErrNotSealed) {
			t.Errorf("%.50q: IsSealed is %v", data, IsSealed([]byte(data)))
		}
	}
}

func TestTheSameTextIsNeverSealedToTheSame(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "k1")
	const nonce = 16 // of base64: 12 bytes
	seen := map[string]bool{}
	for range 10_000 {
		sealed := mustSeal(t, ring, sealPath, "x")
		drawn := string(sealed[len("etcdkit:sealed:v1:k1:"):][:nonce])
		if seen[drawn] {
			t.Fatalf("%q was drawn twice", drawn)
		}
		seen[drawn] = true
	}
}

// The figures are promised in the documentation.
func TestASealedValueIsAsLargeAsPromised(t *testing.T) {
	t.Parallel()
	const published = 700 << 10
	longest := strings.Repeat("k", maxKeyID)
	ring := mustRing(t, longest)
	for _, n := range []int{0, 1, 2, 3, 1000} {
		want := 19 + len(longest) + base64.RawStdEncoding.EncodedLen(n+28)
		if sealed := mustSeal(t, ring, sealPath, strings.Repeat("x", n)); len(sealed) != want {
			t.Errorf("%d bytes became %d, want %d", n, len(sealed), want)
		}
	}
	for limit, n := range map[int]int{MaxSize: 1_179_581, published: 537_533} {
		if got := len(mustSeal(t, ring, sealPath, strings.Repeat("x", n))); got > limit {
			t.Errorf("%d bytes became %d, more than %d", n, got, limit)
		}
		more, err := ring.Seal(sealPath, make([]byte, n+1))
		if limit < MaxSize && (err != nil || len(more) <= limit) {
			t.Errorf("%d bytes became %d (%v)", n+1, len(more), err)
		}
		if limit == MaxSize && (err == nil || more != nil || !strings.Contains(err.Error(), ruleLarge)) {
			t.Errorf("%d bytes became %d (%v)", n+1, len(more), err)
		}
	}
}

func TestASealedCodecReadsWhatIsInside(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "k1")
	want := limits{RPS: 100, Tags: []string{"a"}}
	for _, inner := range []Codec[limits]{nil, Auto[limits](), JSON[limits](), YAML[limits](), TOML[limits]()} {
		c := Sealed(ring, sealPath, inner)
		data, err := c.Encode(want)
		if err != nil || !IsSealed(data) {
			t.Fatalf("%q (%v)", data, err)
		}
		got, err := c.Decode(data)
		if err != nil || got.RPS != want.RPS || len(got.Tags) != 1 {
			t.Errorf("got %+v (%v)", got, err)
		}
		if got, err := Sealed(ring, sealPath+"2", inner).Decode(data); !errors.Is(err, ErrNotOpened) || got.RPS != 0 {
			t.Errorf("under another path: %+v (%v)", got, err)
		}
	}
	inside := mustSeal(t, ring, sealPath, "rps: 100\ntimeout: 30")
	if _, err := Sealed(ring, sealPath, Auto[limits]()).Decode(inside); err == nil || err.Error() != "codec: decode codec.limits: yaml line 2, column 10: field timeout: a duration needs a unit, as in 30s" {
		t.Error(err)
	}
	for data, rule := range map[string]string{"etcdkit:sealed:v2:k1:AAAA": ruleSealedForm, "etcdkit:sealed:v1:k1:" + strings.Repeat("A", MaxSize): ruleLarge} {
		if _, err := ring.Open(sealPath, []byte(data)); err == nil || err.Error() != "codec: open: sealed: "+rule {
			t.Errorf("%.50q: got %v, want %q", data, err, rule)
		}
	}
	// What is refused inside is not sealed.
	if data, err := Sealed(ring, sealPath, Auto[string]()).Encode("\xff"); err == nil || data != nil {
		t.Errorf("%q (%v)", data, err)
	}
	if data, err := Sealed(ring, sealPath, Auto[string]()).Encode(strings.Repeat("x", MaxSize-100)); err == nil || data != nil || !strings.Contains(err.Error(), "codec: encode string: sealed: "+ruleLarge) {
		t.Errorf("%d bytes (%v)", len(data), err)
	}
	settled(t, Sealed(ring, sealPath, Auto[string]()), mustSeal(t, ring, sealPath, "x"))
}

func TestNoErrorOfASealedValueQuotesIt(t *testing.T) {
	t.Parallel()
	ring, other := mustRing(t, "k1"), mustRing(t, "k2")
	path := sealPath + "/" + canary // the path is no secret, but it is not ours to tell
	sealed := mustSeal(t, ring, path, canary)
	failed := 0
	for _, data := range []string{
		canary, "etcdkit:sealed:" + canary, "etcdkit:sealed:v1:" + canary, "etcdkit:sealed:v1:k1:" + canary, "etcdkit:sealed:v1:k1:" + canary + "!",
		"etcdkit:sealed:v1: " + canary + ":AAAA", string(sealed) + canary, string(sealed) + "\n" + canary, string(sealed[:len(sealed)-1]), strings.Replace(string(sealed), ":k1:", ":k2:", 1),
	} {
		for _, ring := range []*Keyring{ring, other, nil} {
			for _, path := range []string{path, canary, ""} {
				plain, err := ring.Open(path, []byte(data))
				_, err2 := Sealed(ring, path, Auto[string]()).Decode([]byte(data))
				if err == nil || err2 == nil {
					t.Errorf("%q was opened: %q", data, plain)
					continue
				}
				failed++
				for _, err := range []error{err, err2} {
					for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fmt.Sprintf("%#v", errors.Unwrap(err))} {
						if strings.Contains(text, canary) || strings.Contains(text, string(sealed[len(sealed)-10:])) {
							t.Errorf("%q: the error quotes it: %s", data, text)
						}
					}
				}
			}
		}
	}
	if failed < 80 {
		t.Errorf("only %d values were refused", failed)
	}
}
