package codec_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/etcdkit/etcdkit/codec"
)

type Limits struct {
	RPS     int           `json:"rps"`
	Timeout time.Duration `json:"timeout"`
}

func Example() {
	c := codec.Auto[Limits]()
	for _, data := range []string{
		`{"rps": 100, "timeout": "30s"}`,
		"rps: 100\ntimeout: 30s\n",
	} {
		v, err := c.Decode([]byte(data))
		fmt.Println(v.RPS, v.Timeout, err)
	}

	// An error says where and why, and not what was there.
	_, err := c.Decode([]byte("rps: 100\ntimeout: 30\n"))
	fmt.Println(err)
	// Output:
	// 100 30s <nil>
	// 100 30s <nil>
	// codec: decode codec_test.Limits: yaml line 2, column 10: field timeout: a duration needs a unit, as in 30s
}

// Scalars are bare, as etcdctl put and echo leave them.
func ExampleAuto() {
	port, _ := codec.Auto[int]().Decode([]byte("8080\n"))
	level, _ := codec.Auto[string]().Decode([]byte("info\n"))
	wait, _ := codec.Auto[time.Duration]().Decode([]byte("30s"))
	fmt.Println(port, level, wait)

	data, _ := codec.Auto[time.Duration]().Encode(90 * time.Second)
	fmt.Println(string(data))
	// Output:
	// 8080 info 30s
	// 1m30s
}

// Strict is for whoever checks a document before it is published.
func ExampleDocument() {
	check := codec.Document[Limits]{Strict: true}
	_, err := check.Decode([]byte(`{"rsp": 100}`))
	fmt.Println(err)
	// Output:
	// codec: decode codec_test.Limits: json line 1, column 2: a field that the type does not have
}

// TOML is read with the json tags that serve the other formats.
func ExampleTOML() {
	c := codec.TOML[Limits]()
	v, err := c.Decode([]byte("rps = 100\ntimeout = '30s'\n"))
	fmt.Println(v.RPS, v.Timeout, err)

	_, err = c.Decode([]byte("rps = 100\ntimeout = 30\n"))
	fmt.Println(err)

	data, _ := c.Encode(v)
	fmt.Print(string(data))
	// Output:
	// 100 30s <nil>
	// codec: decode codec_test.Limits: toml line 2, column 11: field timeout: a duration needs a unit, as in 30s
	// rps = 100
	// timeout = '30s'
}

// A Size is written with its unit, in documents and bare.
func ExampleSize() {
	type upload struct {
		Body  codec.Size `json:"body"`
		Queue codec.Size `json:"queue"`
	}
	v, err := codec.Auto[upload]().Decode([]byte("body: 1.5GiB\nqueue: 4096\n"))
	fmt.Println(v.Body, v.Queue, int64(v.Body), err)

	_, err = codec.Auto[codec.Size]().Decode([]byte("10M"))
	fmt.Println(err)

	data, _ := codec.JSON[upload]().Encode(upload{Body: 10 * codec.MiB, Queue: 5_000_000})
	fmt.Println(string(data))
	// Output:
	// 1536MiB 4KiB 1610612736 <nil>
	// codec: decode codec.Size: text line 1, column 1: k, M, G, T, P and E alone are ambiguous in a size: write KiB for 1024, or kB for 1000
	// {"body":"10MiB","queue":"5MB"}
}

// A password is sealed for its key: whoever reads etcd, or puts it under another key, has nothing of it.
func ExampleSealed() {
	type credentials struct {
		User     string `json:"user"`
		Password string `json:"password"`
	}
	// From a file that only this program may read: codec.LoadKeyring("/etc/mail/keyring").
	ring, err := codec.ParseKeyring([]byte("2026-11  YW4gZXhhbXBsZSBvbmx5OiBuZXZlciB1c2UgdGhpcyE=\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	c := codec.Sealed(ring, "/config/prod/mail/login", codec.Auto[credentials]())
	data, _ := c.Encode(credentials{"mailer", "correct horse"})
	fmt.Println(string(data[:26]), codec.IsSealed(data))

	v, err := c.Decode(data)
	fmt.Println(v.User, v.Password, err)

	_, err = codec.Sealed(ring, "/config/dev/mail/login", codec.Auto[credentials]()).Decode(data)
	fmt.Println(errors.Is(err, codec.ErrNotOpened), err)

	_, err = c.Decode([]byte(`{"user": "mailer", "password": "correct horse"}`))
	fmt.Println(errors.Is(err, codec.ErrNotSealed), err)
	// Output:
	// etcdkit:sealed:v1:2026-11: true
	// mailer correct horse <nil>
	// true codec: decode codec_test.credentials: sealed: it does not open: sealed with another key or for another path, or changed since
	// true codec: decode codec_test.credentials: sealed: not sealed, though it must be
}

// After a rotation the old keys still open. What they sealed is sealed again, one value after the other.
func ExampleKeyring() {
	const path = "/config/prod/mail/login"
	before, _ := codec.ParseKeyring([]byte("2026-05  YW4gb2xkZXIgZXhhbXBsZTogZG8gbm90IHVzZSBpdCE=\n"))
	sealed, _ := before.Seal(path, []byte("correct horse"))

	ring, err := codec.ParseKeyring([]byte(`
2026-11  YW4gZXhhbXBsZSBvbmx5OiBuZXZlciB1c2UgdGhpcyE=   # the first line seals
2026-05  YW4gb2xkZXIgZXhhbXBsZTogZG8gbm90IHVzZSBpdCE=
`))
	fmt.Println(ring, err)
	if id, ok := codec.KeyID(sealed); ok && id != ring.Current() {
		plain, err := ring.Open(path, sealed)
		fmt.Println(id, string(plain), err)
		sealed, _ = ring.Seal(path, plain)
	}
	id, _ := codec.KeyID(sealed)
	fmt.Println(id)
	// Output:
	// keyring of 2026-11, 2026-05 <nil>
	// 2026-05 correct horse <nil>
	// 2026-11
}
