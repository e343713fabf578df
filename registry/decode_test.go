package registry

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// wantDecoded compares what a decoder makes of values under a key with what it should: an address, or a rule that is
// named without quoting the value.
func wantDecoded(t *testing.T, decode Decoder, id string, want map[string]string) {
	t.Helper()
	for value, w := range want {
		i, err := decode("mail", id, []byte(value))
		switch rule, refused := strings.CutPrefix(w, "refused: "); {
		case refused && (err == nil || i != nil):
			t.Errorf("%.60q is read as %+v, %v", value, i, err)
		case refused && !strings.Contains(err.Error(), rule):
			t.Errorf("%.60q is refused without naming the rule %q: %v", value, rule, err)
		case refused && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the refusal of %.60q quotes it: %v", value, err)
		case !refused && err != nil:
			t.Errorf("%.60q is refused: %v", value, err)
		case !refused:
			if want := (Instance{Service: "mail", ID: id, Addr: w, Weight: defaultWeight}); !reflect.DeepEqual(*i, want) {
				t.Errorf("%.60q is read as %+v, want %+v", value, *i, want)
			}
		}
	}
}

func TestABareAddressIsRead(t *testing.T) {
	t.Parallel()
	wantDecoded(t, DecodeHostPort, "a", map[string]string{
		"10.0.0.7:80":             "10.0.0.7:80",
		" " + "10.0.0.7:80\r\n":   "10.0.0.7:80",
		"[::1]:80":                "[::1]:80",
		"mail.example:80":         "mail.example:80",
		"http://10.0.0.7:80":      "10.0.0.7:80",
		"http://10.0.0.7:80/":     "10.0.0.7:80",
		"grpc://[::1]:80":         "[::1]:80",
		"https://hunter2:80":      "refused: after http:// or grpc://",
		"http://grpc://hunter2:1": "refused: host:port",
		"http://hunter2:80/path":  "refused: host:port",
		"hunter2:80/":             "refused: host:port",
		"hunter2":                 "refused: host:port",
		"hunter2:0":               "refused: port from 1 to 65535",
		"hunter2:65536":           "refused: port from 1 to 65535",
		"hunter2:http":            "refused: host:port",
		"hunter2:80,h:81":         "refused: host:port",
		"hunter2\n:80":            "refused: host:port",
		"":                        "refused: host:port",
		`{"Addr":"hunter2:80"}`:   "refused: host:port",
		strings.Repeat(" ", maxSize-12) + "10.0.0.7:80":  "10.0.0.7:80",
		strings.Repeat(" ", maxSize) + "10.0.0.7:80":     "refused: 64 KiB",
		strings.Repeat("hunter2", maxSize/7-1) + "h:80x": "refused: host:port",
	})
}

func TestAnIPAndAPortAreRead(t *testing.T) {
	t.Parallel()
	wantDecoded(t, DecodeIPPort, "a", map[string]string{
		`{"ip":"10.0.0.7","port":80}`:                     "10.0.0.7:80",
		`{"ip":"10.0.0.7","port":"80","other":[{}]}`:      "10.0.0.7:80",
		`{"host":"mail.example","port":80}`:               "mail.example:80",
		`{"ip":"::1","host":"::1","port":80}`:             "[::1]:80",
		`{"ip":"","host":"10.0.0.7","port":80,"zone":""}`: "10.0.0.7:80",
		`{"IP":"10.0.0.7","Port":80,"weight":0}`:          "10.0.0.7:80",
		`{"ip":"10.0.0.7","host":"hunter2","port":80}`:    "refused: ip and host are not the same",
		`{"port":80}`:                                        "refused: ip refused",
		`{}`:                                                 "refused: ip refused",
		`null`:                                               "refused: ip refused",
		`{"ip":"hunter2:80","port":80}`:                      "refused: ip refused",
		`{"ip":"[::1]","port":80}`:                           "refused: ip refused",
		`{"ip":"hunter2 x","port":80}`:                       "refused: Addr refused",
		`{"ip":"hunter2\u0000","port":80}`:                   "refused: Addr refused",
		`{"ip":7,"port":80}`:                                 "refused: ip refused: it is not of type string",
		`{"ip":"10.0.0.7"}`:                                  "refused: port refused",
		`{"ip":"10.0.0.7","port":0}`:                         "refused: port refused",
		`{"ip":"10.0.0.7","port":-1}`:                        "refused: port refused",
		`{"ip":"10.0.0.7","port":65536}`:                     "refused: port refused",
		`{"ip":"10.0.0.7","port":8e1}`:                       "refused: port refused",
		`{"ip":"10.0.0.7","port":"hunter2"}`:                 "refused: port refused",
		`{"ip":"10.0.0.7","port":["hunter2"]}`:               "refused: port refused",
		`{"ip":"10.0.0.7","port":null}`:                      "refused: port refused",
		`{"ip":"10.0.0.7","port":80,"weight":-1}`:            "refused: Weight refused",
		`{"ip":"10.0.0.7","port":80,"weight":"hunter2"}`:     "refused: weight refused",
		`{"ip":"10.0.0.7","port":80,"zone":"hunter2\u0000"}`: "refused: Zone refused",
		`hunter2`:   "refused: not JSON",
		`"hunter2"`: "refused: not a JSON object",
		``:          "refused: not JSON",
		`{"ip":"10.0.0.7","port":80,"x":"` + strings.Repeat("x", maxSize) + `"}`: "refused: 64 KiB",
	})
	i, err := DecodeIPPort("mail", "a", []byte(`{"ip":"10.0.0.7","port":80,"weight":7,"zone":"eu"}`))
	if err != nil || i.Weight != 7 || i.Zone != "eu" {
		t.Errorf("weight and zone are read as %+v, %v", i, err)
	}
}

func TestAnAddressInAKeyIsRead(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"10.0.0.7:80", "[::1]:80", "mail.example:80"} {
		wantDecoded(t, DecodeKey, id, map[string]string{"": id, "hunter2": id, `{"Addr":"hunter2:1"}`: id, strings.Repeat("x", maxSize): "refused: 64 KiB"})
	}
	for _, id := range []string{"a", "10.0.0.7", "10.0.0.7:0", "10.0.0.7:80 ", "zone/10.0.0.7:80", "\xff:80", ""} {
		wantDecoded(t, DecodeKey, id, map[string]string{"hunter2": "refused: key refused: it is not host:port"})
	}
	wantDecoded(t, DecodeKey, strings.Repeat("x", maxID)+":80", map[string]string{"": "refused: over 255 bytes"})
}

var builtIn = decoders{DecodeJSON, DecodeHostPort, DecodeIPPort, DecodeKey}

func TestTheFirstDecoderThatTakesAValueHasIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ id, value, addr string }{
		{"a", `{"Addr":"10.0.0.1:80","ip":"10.0.0.2","port":80}`, "10.0.0.1:80"},
		{"a", `{"ip":"10.0.0.2","port":80}`, "10.0.0.2:80"},
		{"a", "10.0.0.3:80", "10.0.0.3:80"},
		{"10.0.0.4:80", "", "10.0.0.4:80"},
		{"10.0.0.4:80", `{"Addr":"10.0.0.1:80"}`, "10.0.0.1:80"},
		{"10.0.0.4:80", "10.0.0.3:80", "10.0.0.3:80"},
	} {
		if i, err := builtIn.decode("mail", test.id, []byte(test.value)); err != nil || i.Addr != test.addr || i.ID != test.id {
			t.Errorf("%s = %s is read as %+v, %v", test.id, test.value, i, err)
		}
	}
	i, err := decoders{DecodeKey, DecodeJSON}.decode("mail", "10.0.0.4:80", []byte(`{"Addr":"10.0.0.1:80"}`))
	if err != nil || i.Addr != "10.0.0.4:80" {
		t.Errorf("in another order it is read as %+v, %v", i, err)
	}
}

func TestAValueThatAllRefuseNamesTheRuleOfEach(t *testing.T) {
	t.Parallel()
	_, err := builtIn.decode("mail", "hunter2", []byte(`{"Addr":"hunter2","State":"hunter2"}`))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("got %v", err)
	}
	rest := err.Error()
	for _, rule := range []string{"Addr refused", "value refused", "ip refused", "key refused"} {
		var found bool
		if _, rest, found = strings.Cut(rest, rule); !found {
			t.Errorf("%q is not there, or not in its place: %v", rule, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("it is more than a line: %q", err)
	}
	for _, d := range []decoders{nil, {}} {
		if _, err := d.decode("mail", "a", []byte("10.0.0.3:80")); err == nil || !strings.Contains(err.Error(), "not JSON") {
			t.Errorf("without decoders: %v", err)
		}
		if i, err := d.decode("mail", "a", []byte(good)); err != nil || i.Addr != "h:1" {
			t.Errorf("without decoders: %+v, %v", i, err)
		}
	}
}

func TestWhatADecoderOfTheUsersReturnsIsCompletedAndChecked(t *testing.T) {
	t.Parallel()
	shared := &Instance{Service: "other", ID: "other", Addr: "10.0.0.7:80", Metadata: map[string]string{"k": "v"}}
	gives := func(i *Instance, err error) decoders {
		return decoders{func(string, string, []byte) (*Instance, error) { return i, err }}
	}
	i, err := gives(shared, nil).decode("mail", "a", nil)
	want := Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80", Weight: defaultWeight, Metadata: map[string]string{"k": "v"}}
	if err != nil || !reflect.DeepEqual(*i, want) {
		t.Errorf("got %+v, %v; want %+v", i, err, want)
	}
	i.Metadata["k"] = "changed"
	if shared.ID != "other" || shared.Weight != 0 || shared.Metadata["k"] != "v" {
		t.Errorf("what the decoder keeps became %+v", *shared)
	}
	errOwn := errors.New("its own rule")
	for what, test := range map[string]struct {
		d    decoders
		want error
	}{
		"an error":                   {gives(nil, errOwn), errOwn},
		"an error and an instance":   {gives(shared, errOwn), errOwn},
		"nothing":                    {gives(nil, nil), errUndecoded},
		"an instance without a port": {gives(&Instance{Addr: "h"}, nil), errAddr},
		"a panic": {decoders{func(_, _ string, value []byte) (*Instance, error) {
			panic(fmt.Sprintf("hunter2 %s", value))
		}}, errPanicked},
	} {
		if i, err := test.d.decode("mail", "a", nil); !errors.Is(err, test.want) || i != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("of a decoder that returns %s: %+v, %v", what, i, err)
		}
		// Others are asked all the same.
		if i, err := append(test.d, DecodeJSON).decode("mail", "a", []byte(good)); err != nil || i.Addr != "h:1" {
			t.Errorf("after a decoder that returns %s: %+v, %v", what, i, err)
		}
	}
}

func TestAValueThatIsTooLargeReachesNoDecoder(t *testing.T) {
	t.Parallel()
	d := decoders{func(string, string, []byte) (*Instance, error) { t.Error("it was asked"); return nil, nil }}
	if _, err := d.decode("mail", "a", make([]byte, maxSize)); !errors.Is(err, errLarge) {
		t.Error(err)
	}
}

func TestADecoderThatIsNilIsRefused(t *testing.T) {
	t.Parallel()
	if err := errors.Join(decoders(nil).validate(), builtIn.validate()); err != nil {
		t.Error(err)
	}
	if err := (decoders{DecodeJSON, nil}).validate(); err == nil || !strings.Contains(err.Error(), "decoder 1 refused: it is nil") {
		t.Error(err)
	}
}

func FuzzDecoders(f *testing.F) {
	for _, id := range []string{"a", "10.0.0.7:80", "[::1]:80", "..", "zone/h:80", ""} {
		for _, value := range []string{
			"10.0.0.7:80", "grpc://[fe80::1%eth0]:80/", `{"ip":"::1","port":"80","weight":7,"zone":"z"}`, `{"host":"h","port":1}`,
			`{"Op":0,"Addr":"h:1","Metadata":{"a":"b"}}`, `{"ip":"hunter2","port":"hunter2"}`, "hunter2:hunter2", "\xff\xfe", "",
		} {
			f.Add(id, []byte(value))
		}
	}
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		before := string(value)
		i, err := builtIn.decode("mail", id, value)
		if string(value) != before {
			t.Error("the value was changed")
		}
		if err != nil {
			if i != nil {
				t.Errorf("an instance beside the error %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") && !strings.Contains(id, "hunter2") {
				t.Errorf("it quotes the value: %v", err)
			}
			return
		}
		if err := i.check(); err != nil || i.Service != "mail" || i.ID != id {
			t.Errorf("%+v passed although: %v", i, err)
		}
	})
}
