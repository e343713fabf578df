package codec

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
)

const (
	// KeySize is how many bytes a key of a [Keyring] has: those of AES-256.
	KeySize = 32

	// maxKeyID is how long the ID of a key may be. The base64 of a key is longer, so that a key in the place
	// of an ID is refused, and not quoted.
	maxKeyID = 32

	// maxKeyring is how large the file of a keyring may be.
	maxKeyring = 64 << 10
)

// Keyring is the keys that values are sealed with: one to seal, and any number to open what was sealed
// before the last rotation. See [Sealed] for what sealing protects from.
//
// A Keyring does not change: to rotate, make another. It is safe for concurrent use. It hides its keys
// from fmt, encoding/json, log/slog and zap, which are told the IDs only, and from what looks into values
// by reflection. The nil and the zero Keyring have no keys: they seal and open nothing.
type Keyring struct {
	current string
	keys    map[string]secretKey
}

// secretKey is a function, so that no printer can follow it to the key.
type secretKey func() cipher.AEAD

// NewKeyring returns a keyring of the keys, by ID, that seals with the one of ID current.
//
// A key is [KeySize] random bytes; it is copied. An ID is 1 to 32 of the characters A-Z a-z 0-9 . _ -, and
// stands in what is sealed, in the clear. Refused are keys of another length or of nothing but zeros, and
// the same key under two IDs. Errors quote neither keys nor IDs that are none.
func NewKeyring(current string, keys map[string][]byte) (*Keyring, error) {
	ring := &Keyring{current: current, keys: make(map[string]secretKey, len(keys))}
	seen := make(map[string]string, len(keys))
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		key := keys[id]
		if !validKeyID(id) {
			return nil, errors.New("codec: keyring: " + ruleKeyID)
		}
		if rule := keyRule(key); rule != "" {
			return nil, fmt.Errorf("codec: keyring: key %s: %s", id, rule)
		}
		if other, ok := seen[string(key)]; ok {
			return nil, fmt.Errorf("codec: keyring: the keys %s and %s are the same", other, id)
		}
		seen[string(key)] = id
		aead, err := newAEAD(key)
		if err != nil {
			return nil, fmt.Errorf("codec: keyring: key %s: %w", id, err)
		}
		ring.keys[id] = func() cipher.AEAD { return aead }
	}
	if _, ok := ring.keys[current]; !ok {
		return nil, errors.New("codec: keyring: it does not have its current key")
	}
	return ring, nil
}

const ruleKeyID = "the ID of a key is 1 to 32 of the characters A-Z a-z 0-9 . _ -"

// keyRule is the rule that a key breaks, or "".
func keyRule(key []byte) string {
	switch {
	case len(key) != KeySize:
		return fmt.Sprintf("a key of %d bytes: it must have %d", len(key), KeySize)
	case bytes.Count(key, []byte{0}) == len(key):
		return "a key of zeros"
	}
	return ""
}

// newAEAD takes over no part of key. Each seal draws a nonce of 96 random bits.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func validKeyID(id string) bool {
	return id != "" && len(id) <= maxKeyID && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// ParseKeyring reads a keyring from text: a line each key, its ID and the base64 of the key. The first
// line is the current key, the others only open. Empty lines, and what follows a #, do not count.
//
//	# openssl rand -base64 32
//	2026-11  YW4gZXhhbXBsZSBvbmx5OiBuZXZlciB1c2UgdGhpcyE=
//	2026-05  YW4gb2xkZXIgZXhhbXBsZTogZG8gbm90IHVzZSBpdCE=
//
// The rules for IDs and keys are those of [NewKeyring]. Errors name the line, and quote nothing of it.
func ParseKeyring(text []byte) (*Keyring, error) {
	current, keys := "", map[string][]byte{}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		rule := ""
		switch {
		case len(fields) != 2:
			rule = "a line is an ID and a key"
		case !validKeyID(fields[0]):
			rule = ruleKeyID
		case keys[fields[0]] != nil:
			rule = "an ID that occurs twice"
		default:
			key, err := base64.StdEncoding.Strict().DecodeString(fields[1])
			if err != nil {
				rule = "a key that is not base64"
			} else {
				rule = keyRule(key)
			}
			keys[fields[0]] = key
		}
		if rule != "" {
			return nil, fmt.Errorf("codec: keyring: line %d: %s", number, rule)
		}
		if current == "" {
			current = fields[0]
		}
	}
	if current == "" {
		return nil, errors.New("codec: keyring: no keys")
	}
	return NewKeyring(current, keys)
}

// LoadKeyring reads a keyring from a file; see [ParseKeyring] for what is in it.
//
// A file is refused that others than its owner and its group may read, or others than its owner may
// write: mode 0640 or less. A secret that Kubernetes mounts needs defaultMode: 0440. On Windows modes mean
// nothing, and are not looked at. The errors are those of os.Open and ParseKeyring, with the name of the
// file.
func LoadKeyring(name string) (*Keyring, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("codec: keyring: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	// The file that is open, not the name: that may mean another one by now.
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("codec: keyring: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("codec: keyring: %s is not a regular file", name)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o027 != 0:
		return nil, fmt.Errorf("codec: keyring: %s has mode %04o: others can read it, or its group can write it; it must be 0640 or less", name, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyring+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("codec: keyring: %w", err)
	case len(text) > maxKeyring:
		return nil, fmt.Errorf("codec: keyring: %s is larger than %d bytes", name, maxKeyring)
	}
	ring, err := ParseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, name)
	}
	return ring, nil
}

// Current is the ID of the key that seals, or "" if there are no keys. What has another [KeyID] was sealed
// before the last rotation.
func (k *Keyring) Current() string {
	if k == nil {
		return ""
	}
	return k.current
}

// String names the IDs of the keys, the current one first, and nothing else.
func (k *Keyring) String() string {
	if k == nil || len(k.keys) == 0 {
		return "keyring without keys"
	}
	ids := []string{k.current}
	for _, id := range slices.Sorted(maps.Keys(k.keys)) {
		if id != k.current {
			ids = append(ids, id)
		}
	}
	return "keyring of " + strings.Join(ids, ", ")
}

// GoString is String: %#v shows no more than %v.
func (k *Keyring) GoString() string { return k.String() }

// Format writes String, whatever the verb and the flags.
func (k *Keyring) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MarshalText returns String, for logs and for JSON. There is no way back.
func (k *Keyring) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
