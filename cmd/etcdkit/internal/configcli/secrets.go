package configcli

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/etcdkit/etcdkit/codec"
)

// secrets seals and opens values. Without a keyring what is sealed stays so, and is shown like any other value.
type secrets struct {
	ring  *codec.Keyring // nil if there is none
	asked bool           // it was named on the command line
}

// newSecrets reads the keyring in a file, or in that of the environment; no name means none.
func newSecrets(file string) (*secrets, error) {
	s := &secrets{asked: file != ""}
	name := cmp.Or(file, os.Getenv("ETCDKIT_KEYRING"))
	if name == "" {
		return s, nil
	}
	var err error
	s.ring, err = codec.LoadKeyring(name)
	return s, err
}

// open returns what a key's value says, and whether it is sealed in etcd.
func (s *secrets) open(key string, value []byte) (plain []byte, sealed bool, err error) {
	if !codec.IsSealed(value) {
		return value, false, nil
	}
	if s.ring == nil {
		return value, true, nil
	}
	if plain, err = s.ring.Open(key, value); err != nil {
		return nil, true, fmt.Errorf("%s: %w", key, err)
	}
	return plain, true, nil
}

var errNoKeyring = errors.New("--seal needs a keyring: --keyring or ETCDKIT_KEYRING")

// seal returns a value as it is to be in etcd: sealed if it was before, or is to be.
func (s *secrets) seal(key string, value []byte, before bool, from *source) ([]byte, error) {
	switch {
	case codec.IsSealed(value) && s.ring == nil:
		return value, nil // for this key, it is to be hoped
	case codec.IsSealed(value):
		_, _, err := s.open(key, value)
		return value, err
	case !before && !from.seal && !s.asked:
		return value, nil
	case s.ring == nil && from.seal:
		return nil, errNoKeyring
	case s.ring == nil && from.force:
		return value, nil
	case s.ring == nil:
		return nil, fmt.Errorf("%s is sealed, and there is no keyring to seal the new value: --keyring names one; --force publishes it for all to read", key)
	}
	return s.ring.Seal(key, value)
}
