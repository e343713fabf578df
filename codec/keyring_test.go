package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// canaryKey is a key that is found wherever it is printed.
var canaryKey = []byte(canary + strings.Repeat(".", KeySize-2*len(canary)) + canary)

func TestAKeyringOfBadKeysIsRefusedWithTheRule(t *testing.T) {
	t.Parallel()
	good := secret(1)
	for _, c := range []struct {
		current string
		keys    map[string][]byte
		want    string
	}{
		{"k1", nil, "codec: keyring: it does not have its current key"},
		{"", map[string][]byte{"k1": good}, "it does not have its current key"},
		{"k2", map[string][]byte{"k1": good}, "it does not have its current key"},
		{canary, map[string][]byte{"k1": good}, "it does not have its current key"},
		{"k1", map[string][]byte{"k1": good, "": secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": good, canary + " 2": secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": good, canary + ":": secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": good, canary + "é": secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": good, strings.Repeat("k", maxKeyID+1): secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": good, base64.StdEncoding.EncodeToString(canaryKey): secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": good, base64.RawURLEncoding.EncodeToString(canaryKey): secret(2)}, ruleKeyID},
		{"k1", map[string][]byte{"k1": nil}, "key k1: a key of 0 bytes: it must have 32"},
		{"k1", map[string][]byte{"k1": canaryKey[:16]}, "key k1: a key of 16 bytes: it must have 32"},
		{"k1", map[string][]byte{"k1": append(canaryKey, 'x')}, "key k1: a key of 33 bytes: it must have 32"},
		{"k1", map[string][]byte{"k1": make([]byte, KeySize)}, "key k1: a key of zeros"},
		{"k1", map[string][]byte{"k1": canaryKey, "k2": canaryKey}, "the keys k1 and k2 are the same"},
	} {
		ring, err := NewKeyring(c.current, c.keys)
		if err == nil || ring != nil || !strings.HasPrefix(err.Error(), "codec: keyring: ") || !strings.HasSuffix(err.Error(), c.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: got %v, %v, want %q", c.current, ring, err, c.want)
		}
	}
	key := bytes.Clone(good)
	ring, err := NewKeyring("k1", map[string][]byte{"k1": key, strings.Repeat("k", maxKeyID): secret(2), "A-Z_a.z-09": secret(3)})
	if err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, ring, sealPath, "x")
	clear(key) // it was copied
	if plain, err := ring.Open(sealPath, sealed); err != nil || string(plain) != "x" {
		t.Errorf("%q, %v", plain, err)
	}
	if plain, err := mustRing(t, "k1").Open(sealPath, sealed); err == nil {
		t.Errorf("another key opened it: %q", plain)
	}
}

func TestTheFirstLineOfAKeyringIsItsCurrentKey(t *testing.T) {
	t.Parallel()
	line := func(id string, n byte) string { return id + "  " + base64.StdEncoding.EncodeToString(secret(n)) }
	ring, err := ParseKeyring([]byte("# keys\n\n \t" + line("new", 2) + "\t# of today\r\n" + line("old", 1) + "\n#" + line("gone", 3)))
	if err != nil || ring.Current() != "new" || ring.String() != "keyring of new, old" {
		t.Fatalf("%v, %v", ring, err)
	}
	old, err := NewKeyring("old", map[string][]byte{"old": secret(1)})
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := ring.Open(sealPath, mustSeal(t, old, sealPath, "x")); err != nil || string(plain) != "x" {
		t.Errorf("%q, %v", plain, err)
	}

	encoded := base64.StdEncoding.EncodeToString(canaryKey)
	for text, want := range map[string]string{
		"":                                    "codec: keyring: no keys",
		"# nothing\n":                         "codec: keyring: no keys",
		"k1":                                  "codec: keyring: line 1: a line is an ID and a key",
		encoded:                               "line 1: a line is an ID and a key",
		"k1 " + encoded + " x":                "line 1: a line is an ID and a key",
		encoded + " k1":                       "line 1: " + ruleKeyID,
		"\nk:1 " + encoded:                    "line 2: " + ruleKeyID,
		"k1 " + encoded[1:]:                   "line 1: a key that is not base64",
		"k1 " + encoded[:43]:                  "line 1: a key that is not base64",
		"k1 " + hex.EncodeToString(canaryKey): "line 1: a key of 48 bytes: it must have 32",
		"k1 " + encoded[:42] + "r=":           "line 1: a key that is not base64", // bits that mean nothing
		"k1 " + encoded[:40]:                  "line 1: a key of 30 bytes: it must have 32",
		"k1 " + strings.Repeat("A", 43) + "=": "line 1: a key of zeros",
		"k1 " + encoded + "\nk1 " + encoded:   "line 2: an ID that occurs twice",
		"k1 " + encoded + "\nk2 " + encoded:   "codec: keyring: the keys k1 and k2 are the same",
		"k1 " + encoded + "\n" + canary + " " + canary: "line 2: a key that is not base64",
	} {
		ring, err := ParseKeyring([]byte(text))
		if err == nil || ring != nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", text, ring, err, want)
			continue
		}
		for _, part := range []string{canary, encoded[:8], encoded[20:28], hex.EncodeToString(canaryKey)[:8]} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the error quotes it: %v", text, err)
			}
		}
	}
}

func TestAKeyringIsNotLoadedFromAFileThatOthersMayRead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing here")
	}
	name := filepath.Join(t.TempDir(), "keys")
	text := "k1 " + base64.StdEncoding.EncodeToString(canaryKey) + "\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, loads := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o440: true, 0o700: true, 0o644: false, 0o604: false, 0o602: false, 0o601: false, 0o660: false, 0o777: false} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		ring, err := LoadKeyring(name)
		if loads && (err != nil || ring.Current() != "k1") {
			t.Errorf("%04o: %v, %v", mode, ring, err)
		}
		if want := fmt.Sprintf("%s has mode %04o: others can read it", name, mode); !loads && (err == nil || ring != nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%04o: %v, %v, want %q", mode, ring, err, want)
		}
	}
	// A link, as Kubernetes mounts secrets, is as good as what it leads to.
	link := name + ".link"
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for mode, loads := range map[os.FileMode]bool{0o600: true, 0o644: false} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyring(link); (err == nil) != loads {
			t.Errorf("%04o through a link: %v", mode, err)
		}
	}

	if _, err := LoadKeyring(name + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := LoadKeyring(filepath.Dir(name)); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"k1 " + canary:                        "codec: keyring: line 1: a key that is not base64 (in " + name + ")",
		strings.Repeat("#\n", maxKeyring/2+1): "is larger than 65536 bytes",
	} {
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if ring, err := LoadKeyring(name); err == nil || ring != nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, %v, want %q", ring, err, want)
		}
	}
}

func TestAKeyringDoesNotShowItsKeys(t *testing.T) {
	t.Parallel()
	ring, err := NewKeyring("k1", map[string][]byte{"k1": canaryKey, "k2": secret(2)})
	if err != nil {
		t.Fatal(err)
	}
	type options struct {
		Ring   *Keyring
		Copy   Keyring
		Any    any
		Codec  Codec[string]
		hidden *Keyring
		copied Keyring
		inner  Codec[string]
	}
	codec := Sealed(ring, sealPath, Auto[string]())
	holder := options{Ring: ring, Copy: *ring, Any: ring, Codec: codec, hidden: ring, copied: *ring, inner: codec}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10v", "%T", "%p"} {
		for _, v := range []any{ring, *ring, holder, &holder, []any{ring}, map[string]any{"x": *ring}, codec, ring.keys, ring.keys["k1"], (*Keyring)(nil)} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10v"} {
		if got := fmt.Sprintf(verb, ring); got != ring.String() {
			t.Errorf("%s is %q", verb, got)
		}
	}
	_ = json.NewEncoder(&out).Encode(ring)
	_ = json.NewEncoder(&out).Encode(map[string]any{"ring": ring, "copy": *ring})
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "ring", ring, "copy", *ring, "holder", holder, "codec", codec)
	}
	sink := zapcore.AddSync(&out)
	for _, enc := range []zapcore.Encoder{zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())} {
		log := zap.New(zapcore.NewCore(enc, sink, zapcore.DebugLevel))
		log.Info("x", zap.Any("ring", ring), zap.Any("copy", *ring), zap.Reflect("ring", ring), zap.Stringer("ring", ring), zap.Any("list", []*Keyring{ring}))
		log.Sugar().Infow("x", "ring", ring, "codec", codec)
	}
	text, err := ring.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	out.WriteString(ring.GoString())
	deep(&out, reflect.ValueOf(&holder), 0)

	for _, form := range []string{
		"7a51377a", "7a37517a", // the first word of the key, as AES holds it
		canary, hex.EncodeToString([]byte(canary)), strings.ToUpper(hex.EncodeToString([]byte(canary))), base64.StdEncoding.EncodeToString(canaryKey)[:8],
		strings.Trim(fmt.Sprint([]byte(canary)), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"), ", ", " "), strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"),
	} {
		if i := strings.Index(out.String(), form); i >= 0 {
			t.Errorf("the key is shown as %s: %.200s", form, out.String()[max(0, i-100):])
		}
	}
	if n := strings.Count(out.String(), "keyring of k1, k2"); n < 50 {
		t.Errorf("what was printed names the keys %d times", n)
	}
}

// deep prints whatever reflection reaches, as printers for debugging do.
func deep(out *bytes.Buffer, v reflect.Value, depth int) {
	if depth > 20 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			deep(out, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			deep(out, field, depth+1)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			deep(out, k, depth+1)
			deep(out, v.MapIndex(k), depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			deep(out, v.Index(i), depth+1)
		}
	default:
		fmt.Fprintf(out, "%v %x ", v, v)
	}
}

func TestAKeyringWithoutKeysSealsAndOpensNothing(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, mustRing(t, "k1"), sealPath, "x")
	for _, ring := range []*Keyring{nil, {}} {
		if data, err := ring.Seal(sealPath, []byte("x")); !errors.Is(err, ErrUnknownKey) || data != nil || err.Error() != "codec: seal: sealed: the keyring has no keys" {
			t.Errorf("%q, %v", data, err)
		}
		if plain, err := ring.Open(sealPath, sealed); !errors.Is(err, ErrUnknownKey) || plain != nil {
			t.Errorf("%q, %v", plain, err)
		}
		if _, err := Sealed(ring, sealPath, Auto[string]()).Encode("x"); !errors.Is(err, ErrUnknownKey) {
			t.Error(err)
		}
		if ring.Current() != "" || fmt.Sprint(ring) != "keyring without keys" {
			t.Errorf("%q, %v", ring.Current(), ring)
		}
	}
}
