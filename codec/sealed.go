package codec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"reflect"
)

// What [Keyring.Open] and the codec of [Sealed] refuse. Both return an [*Error] that wraps one of these.
var (
	// ErrNotSealed is for a value that was never sealed. It is refused where a sealed one is wanted: else
	// whoever may write to etcd could put a value of their own.
	ErrNotSealed = errors.New("codec: the value is not sealed")

	// ErrUnknownKey is for a value sealed with a key that the keyring does not have. The error names its ID.
	ErrUnknownKey = errors.New("codec: the value is sealed with a key that the keyring does not have")

	// ErrNotOpened is for a sealed value that does not open: it was sealed with another key of the same ID or
	// for another path, or it was changed or cut off since.
	ErrNotOpened = errors.New("codec: the sealed value does not open")
)

const (
	// sealedMark begins whatever is sealed, in this and later versions.
	sealedMark = "etcdkit:sealed:"
	sealedV1   = sealedMark + "v1:"
)

// Of Strict, so that no two texts mean the same bytes. Its alphabet needs no quotes anywhere.
var sealedBase64 = base64.RawURLEncoding.Strict()

const (
	ruleNotSealed  = "not sealed, though it must be"
	ruleSealedForm = "sealed in a form that this version does not know"
	ruleSealedText = "sealed, but damaged"
	ruleNotOpened  = "it does not open: sealed with another key or for another path, or changed since"
	ruleNoPath     = "a value is sealed for the path of its key, and that is empty"
)

// IsSealed reports whether data is a sealed value, by how it begins. That it opens is not said.
func IsSealed(data []byte) bool { return bytes.HasPrefix(data, []byte(sealedMark)) }

// KeyID is the ID of the key that data is sealed with, if it is. The ID stands there in the clear and is
// not verified: it serves to find what has to be sealed again after a rotation.
func KeyID(data []byte) (id string, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(sealedV1))
	if !ok {
		return "", false
	}
	before, _, ok := bytes.Cut(rest[:min(len(rest), maxKeyID+1)], []byte(":"))
	if id = string(before); !ok || !validKeyID(id) {
		return "", false
	}
	return id, true
}

// Seal encrypts plain with the current key, for the value of the key path: with another path it will not
// open. The path is the key as the program names it, whole: /config/prod/mail, not mail.
//
// The result is one line of text, etcdkit:sealed:v1:<ID>:<base64>, without a newline: 19 bytes and the ID,
// and four thirds of plain and 28 bytes more. It differs each time. It must not be larger than [MaxSize],
// so that plain may be 1,179,581 bytes, whatever the ID; in 700 KiB are 537,533.
//
// Nonces are 96 random bits: a key is good for 2^32 values, by all who seal with it. After that the chance
// that two share a nonce, which would give away both, is more than one in 2^32. The error is an [*Error], and wraps [ErrUnknownKey]
// if the keyring has no keys.
func (k *Keyring) Seal(path string, plain []byte) ([]byte, error) {
	sealed, f := k.seal(path, plain)
	if f != nil {
		return nil, f.error("seal", "")
	}
	return sealed, nil
}

// Open decrypts what [Keyring.Seal] made for the same path, with whichever of the keys it names. One newline
// at the end does not count, as editors add it.
//
// The error is an [*Error], and wraps [ErrNotSealed], [ErrUnknownKey] or [ErrNotOpened]. It says nothing of
// the value but the ID of its key.
func (k *Keyring) Open(path string, sealed []byte) ([]byte, error) {
	plain, f := k.open(path, sealed)
	if f != nil {
		return nil, f.error("open", "")
	}
	return plain, nil
}

// sealedFault is an [Error] while it is still under way.
type sealedFault struct {
	rule string
	is   error
}

func (f *sealedFault) error(op, typ string) error {
	return &Error{Op: op, Type: typ, Format: "sealed", Rule: f.rule, is: f.is}
}

func (k *Keyring) seal(path string, plain []byte) ([]byte, *sealedFault) {
	if path == "" {
		return nil, &sealedFault{rule: ruleNoPath}
	}
	id := k.Current()
	key, f := k.key(id)
	if f != nil {
		return nil, f
	}
	aead := key()
	header := sealedV1 + id + ":"
	size := len(header) + sealedBase64.EncodedLen(len(plain)+aead.Overhead())
	if size > MaxSize {
		return nil, &sealedFault{rule: ruleLarge}
	}
	return sealedBase64.AppendEncode([]byte(header), aead.Seal(nil, nil, plain, []byte(header+path))), nil
}

func (k *Keyring) open(path string, data []byte) ([]byte, *sealedFault) {
	switch {
	case !IsSealed(data):
		return nil, &sealedFault{ruleNotSealed, ErrNotSealed}
	case path == "":
		return nil, &sealedFault{ruleNoPath, ErrNotOpened}
	case !bytes.HasPrefix(data, []byte(sealedV1)):
		return nil, &sealedFault{ruleSealedForm, ErrNotOpened}
	case len(data) > MaxSize:
		return nil, &sealedFault{ruleLarge, ErrNotOpened}
	}
	id, ok := KeyID(data)
	if !ok {
		return nil, &sealedFault{ruleSealedText, ErrNotOpened}
	}
	key, f := k.key(id)
	if f != nil {
		return nil, f
	}
	header := sealedV1 + id + ":"
	text := data[len(header):]
	if line, ok := bytes.CutSuffix(text, []byte("\n")); ok {
		text = bytes.TrimSuffix(line, []byte("\r"))
	}
	// The decoder passes over line breaks, wherever they are.
	if bytes.ContainsAny(text, "\r\n") {
		return nil, &sealedFault{ruleSealedText, ErrNotOpened}
	}
	sealed := make([]byte, sealedBase64.DecodedLen(len(text)))
	n, err := sealedBase64.Decode(sealed, text)
	if err != nil {
		return nil, &sealedFault{ruleSealedText, ErrNotOpened}
	}
	plain, err := key().Open(nil, nil, sealed[:n], []byte(header+path))
	if err != nil {
		return nil, &sealedFault{ruleNotOpened, ErrNotOpened}
	}
	return plain, nil
}

// key returns the key of an ID.
func (k *Keyring) key(id string) (secretKey, *sealedFault) {
	if k != nil {
		if key, ok := k.keys[id]; ok {
			return key, nil
		}
	}
	if id == "" {
		return nil, &sealedFault{"the keyring has no keys", ErrUnknownKey}
	}
	return nil, &sealedFault{"sealed with key " + id + ", which the keyring does not have", ErrUnknownKey}
}

// Sealed returns the codec of a T that is stored sealed under the key path: Decode opens it and inner
// reads what was inside; Encode has inner write it and seals that. If inner is nil, it is [Auto].
//
// Whoever reads etcd, its backups or its disks without a key learns how long the value is, when it changes
// and which key it is sealed with. Whoever writes to etcd without a key cannot change the value or put
// that of another path in its place, and a document that is not sealed is refused. They can put back an
// older value of the same path, and delete it: sealing does not tell old from new.
//
// The path is the key as the program names it, whole; see [Keyring.Seal]. The codec is safe for concurrent
// use if inner is. Its errors are those of [Keyring.Open], [Keyring.Seal] and inner.
func Sealed[T any](ring *Keyring, path string, inner Codec[T]) Codec[T] {
	if inner == nil {
		inner = Auto[T]()
	}
	return sealed[T]{ring, path, inner}
}

type sealed[T any] struct {
	ring  *Keyring
	path  string
	inner Codec[T]
}

func (s sealed[T]) Decode(data []byte) (T, error) {
	plain, f := s.ring.open(s.path, data)
	if f != nil {
		var zero T
		return zero, f.error("decode", reflect.TypeFor[T]().String())
	}
	return s.inner.Decode(plain)
}

func (s sealed[T]) Encode(v T) ([]byte, error) {
	plain, err := s.inner.Encode(v)
	if err != nil {
		return nil, err
	}
	data, f := s.ring.seal(s.path, plain)
	if f != nil {
		return nil, f.error("encode", reflect.TypeFor[T]().String())
	}
	return data, nil
}
