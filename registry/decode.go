package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Decoder reads the instance that a key directly below a service's prefix holds. id is the rest of the key, which holds no
// slash: keys further below are instances of other services. Its error says which rule the value breaks, and must not
// repeat the value, as it is shown and logged. It must neither keep nor change value, and is called from one goroutine at a
// time for each view.
//
// [DecodeJSON], [DecodeHostPort], [DecodeIPPort] and [DecodeKey] are Decoders. One of your own need not check or fill in
// what it returns: whatever it says, Service and ID are those of the key, a Weight of 0 is the default, and an instance
// that breaks a rule is refused. A panic in it refuses the value too.
type Decoder func(service, id string, value []byte) (*Instance, error)

var (
	errUndecoded = errors.New("the decoder has returned nothing")
	errPanicked  = errors.New("the decoder has panicked")
	errDecoder   = errors.New("it is nil")
	errNoAddress = errors.New("it is not host:port with a port from 1 to 65535, bare or after http:// or grpc://")
	errNoHost    = errors.New("it is neither an IP address nor the name of a host")
	errHosts     = errors.New("ip and host are not the same")
	errPort      = errors.New("it is not a number from 1 to 65535")
)

// DecodeJSON reads what [Register] writes, and what etcd's client/v3/naming/endpoints does. Alone it is how a view
// decodes unless options say otherwise.
func DecodeJSON(service, id string, value []byte) (*Instance, error) {
	return decode(service, id, value)
}

// DecodeHostPort reads a value that is the address: 10.0.0.7:80, or http://10.0.0.7:80 or grpc://10.0.0.7:80, also with a
// slash at the end. White space around it does not matter.
func DecodeHostPort(service, id string, value []byte) (*Instance, error) {
	if len(id)+len(value) > maxSize {
		return nil, errLarge
	}
	addr := strings.TrimSpace(string(value))
	for _, scheme := range []string{"http://", "grpc://"} {
		if rest, is := strings.CutPrefix(addr, scheme); is {
			addr = strings.TrimSuffix(rest, "/")
			break
		}
	}
	if !hostPort(addr) {
		return nil, refuse("value", errNoAddress)
	}
	return complete(Instance{Addr: addr}, service, id)
}

// DecodeIPPort reads a JSON object with the members ip (or host, which may be a name) and port (a number, or a string that
// holds one), and perhaps weight and zone; others do not matter.
func DecodeIPPort(service, id string, value []byte) (*Instance, error) {
	if len(id)+len(value) > maxSize {
		return nil, errLarge
	}
	var r struct {
		IP     string          `json:"ip"`
		Host   string          `json:"host"`
		Port   json.RawMessage `json:"port"`
		Weight int             `json:"weight"`
		Zone   string          `json:"zone"`
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, jsonError(err)
	}
	host := r.IP
	switch {
	case host == "":
		host = r.Host
	case r.Host != "" && r.Host != host:
		return nil, refuse("ip", errHosts)
	}
	// With brackets put around it, any text with a colon would pass for an IPv6 address.
	if _, err := netip.ParseAddr(host); err != nil && (host == "" || strings.ContainsAny(host, ":[]")) {
		return nil, refuse("ip", errNoHost)
	}
	port, err := strconv.ParseUint(strings.Trim(string(r.Port), `"`), 10, 16)
	if err != nil || port == 0 {
		return nil, refuse("port", errPort)
	}
	addr := net.JoinHostPort(host, strconv.FormatUint(port, 10))
	return complete(Instance{Addr: addr, Weight: r.Weight, Zone: r.Zone}, service, id)
}

// DecodeKey reads an address from the key: services/mail/10.0.0.7:80. The address is the ID too. The value does not matter,
// so that it takes also a malformed value of another kind under such a key: put it last.
func DecodeKey(service, id string, value []byte) (*Instance, error) {
	if len(id)+len(value) > maxSize {
		return nil, errLarge
	}
	if !hostPort(id) {
		return nil, refuse("key", errAddr)
	}
	return complete(Instance{Addr: id}, service, id)
}

// complete makes an instance one of the given key, and checks it.
func complete(i Instance, service, id string) (*Instance, error) {
	i.Service, i.ID = service, id
	if i.Weight == 0 {
		i.Weight = defaultWeight
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	return &i, nil
}

// decoders are asked one after the other; the first that takes a value has it. None mean DecodeJSON alone.
type decoders []Decoder

// validate returns an error that names the rule that one of them breaks.
func (d decoders) validate() error {
	for n, decode := range d {
		if decode == nil {
			return refuse(fmt.Sprintf("decoder %d", n), errDecoder)
		}
	}
	return nil
}

// decode reads the instance that a key below a service's prefix holds. If all refuse it the error names the rule of each, in
// their order.
func (d decoders) decode(service, id string, value []byte) (*Instance, error) {
	if len(d) == 0 {
		return decode(service, id, value)
	}
	if len(id)+len(value) > maxSize {
		return nil, errLarge
	}
	var refused error
	for _, decoder := range d {
		i, err := ask(decoder, service, id, value)
		switch {
		case err == nil:
			return i, nil
		case refused == nil:
			refused = err
		default:
			refused = fmt.Errorf("%w; %w", refused, err)
		}
	}
	return nil, refused
}

// ask has one decoder read a value. What it returns may be shared with whoever wrote it.
func ask(decoder Decoder, service, id string, value []byte) (i *Instance, err error) {
	defer func() {
		if recover() != nil { // which may be the value, or hold it
			i, err = nil, errPanicked
		}
	}()
	found, err := decoder(service, id, value)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, errUndecoded
	}
	return complete(found.clone(), service, id)
}
