package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// record is an instance's value in etcd. The first three fields are those of client/v3/naming/endpoints, so that each
// finds what the other wrote; readers skip fields that they do not know.
type record struct {
	Op       int // always 0, "add": what is gone has no key
	Addr     string
	Metadata map[string]string
	Zone     string `json:",omitempty"`
	Version  string `json:",omitempty"`
	Weight   int
	State    string `json:",omitempty"` // none is ready
}

// encode returns the value of an instance. The same instance has the same value.
func encode(i Instance) (string, error) {
	r := record{
		Addr:     i.Addr,
		Metadata: i.Metadata,
		Zone:     i.Zone,
		Version:  i.Version,
		Weight:   i.Weight,
	}
	if i.State != Ready {
		r.State = i.State.String()
	}
	value, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode the instance: %w", err)
	}
	return string(value), nil
}

// decode reads the instance that a key below a service's prefix holds. Its error names the rule that the value
// breaks, and never the value.
func decode(service, id string, value []byte) (*Instance, error) {
	if len(id)+len(value) > maxSize {
		return nil, errLarge
	}
	var r struct {
		Addr     string
		Metadata json.RawMessage
		Zone     string
		Version  string
		Weight   int
		State    string
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, jsonError(err)
	}
	if r.Weight == 0 {
		r.Weight = defaultWeight
	}
	i := &Instance{
		Service:  service,
		ID:       id,
		Addr:     r.Addr,
		Zone:     r.Zone,
		Version:  r.Version,
		Weight:   r.Weight,
		Metadata: decodeMetadata(r.Metadata),
	}
	if r.State != "" {
		i.State = State(slices.Index(stateNames[:], r.State)) // -1 is none of them
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	return i, nil
}

// decodeMetadata makes strings of whatever JSON the metadata is. raw has been found to be JSON.
func decodeMetadata(raw json.RawMessage) map[string]string {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return map[string]string{"": jsonText(raw)}
	}
	m := make(map[string]string, len(members))
	for k, v := range members {
		m[k] = jsonText(v)
	}
	return m
}

// jsonText is a JSON string's content, and the text of any other JSON.
func jsonText(raw json.RawMessage) string {
	var s string
	if string(raw) != "null" && json.Unmarshal(raw, &s) == nil {
		return s
	}
	var b bytes.Buffer
	_ = json.Compact(&b, raw) // it has been found to be JSON
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// jsonError says where a value is wrong, without what it holds: encoding/json's own errors quote it.
func jsonError(err error) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("its value is not JSON from byte %d on", e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
		return fmt.Errorf("%s refused: it is not of type %s", e.Field, e.Type)
	}
	return errors.New("its value is not a JSON object")
}
