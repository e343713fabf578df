package pool

import (
	"encoding/json"
	"fmt"

	"go.uber.org/zap/zapcore"
)

// redacted stands for what must not be seen.
const redacted = "[redacted]"

// public is a Config as it may be seen.
type public struct {
	Endpoints            []string  `json:"endpoints"`
	Namespace            string    `json:"namespace,omitempty"`
	TLS                  *TLSFiles `json:"tls,omitempty"`
	Username             string    `json:"username,omitempty"`
	Password             string    `json:"password,omitempty"`
	Token                string    `json:"token,omitempty"`
	Credentials          string    `json:"credentials,omitempty"`
	PlaintextCredentials bool      `json:"plaintextCredentials,omitempty"`
}

func (c Config) public() public {
	p := public{
		Endpoints: make([]string, len(c.Endpoints)), Namespace: c.Namespace, TLS: c.TLS, Username: c.Username,
		Password: hide(c.Password), Token: hide(c.Token), PlaintextCredentials: c.PlaintextCredentials,
	}
	for i, e := range c.Endpoints {
		p.Endpoints[i] = anonymous(e) // it may not have been validated
	}
	if c.Credentials != nil {
		p.Credentials = "callback"
	}
	return p
}

// hide says that there is something, and not what.
func hide(secret string) string {
	if secret == "" {
		return ""
	}
	return redacted
}

// String is where c connects to, and as whom: without passwords and tokens, as are GoString, MarshalJSON, Format and
// MarshalLogObject.
func (c Config) String() string {
	// It holds nothing that cannot be marshalled.
	text, _ := json.Marshal(c.public())
	return string(text)
}

// GoString is String.
func (c Config) GoString() string { return c.String() }

// Format writes String, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// MarshalJSON returns String.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.public()) }

// MarshalLogObject logs what String says.
func (c Config) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	return enc.AddReflected("config", c.public())
}

// String says who, and that there is a secret.
func (c Credentials) String() string {
	return fmt.Sprintf("{Username:%s Password:%s Token:%s}", c.Username, hide(c.Password), hide(c.Token))
}

// GoString is String.
func (c Credentials) GoString() string { return c.String() }

// Format writes String, whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// MarshalJSON marshals what String says.
func (c Credentials) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"username": c.Username, "password": hide(c.Password), "token": hide(c.Token)})
}

// MarshalLogObject logs what String says.
func (c Credentials) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("username", c.Username)
	enc.AddString("password", hide(c.Password))
	enc.AddString("token", hide(c.Token))
	return nil
}

// String is what the pool is doing (see [Stats]). Without it, and the methods below, fmt would print the fields of p, which
// holds a Config.
func (p *Pool) String() string { return p.Stats().String() }

// GoString is String.
func (p *Pool) GoString() string { return p.String() }

// Format writes String, whatever the verb.
func (p *Pool) Format(f fmt.State, _ rune) { fmt.Fprint(f, p.String()) }
