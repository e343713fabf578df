package registry

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
)

func TestAValueIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := Instance{
		Service: "mail", ID: "a", Addr: "[::1]:80", Zone: "eu-1", Version: "1.2.3 <é>", Weight: 7, State: Draining,
		Metadata: map[string]string{"k": "line\nand \x00", "<é>": ""},
	}
	value, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode("mail", "a", []byte(value))
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestAValueHasTheFieldsThatEtcdsEndpointsRead(t *testing.T) {
	t.Parallel()
	value, err := encode(Instance{Addr: "h:1", Weight: 100, Metadata: map[string]string{"b": "2", "a": "1"}})
	want := `{"Op":0,"Addr":"h:1","Metadata":{"a":"1","b":"2"},"Weight":100}`
	if err != nil || value != want {
		t.Errorf("got %s, %v; want %s", value, err, want)
	}
}

func TestValuesOfOthersAreRead(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]Instance{
		`{"Op":0,"Addr":"h:1","Metadata":null}`:                                 {Weight: 100},
		`{"Addr":"h:1"}`:                                                        {Weight: 100},
		`{"Op":1,"Addr":"h:1","Metadata":"text"}`:                               {Weight: 100, Metadata: map[string]string{"": "text"}},
		`{"Addr":"h:1","Metadata":[1, 2]}`:                                      {Weight: 100, Metadata: map[string]string{"": "[1,2]"}},
		`{"Addr":"h:1","Metadata":7}`:                                           {Weight: 100, Metadata: map[string]string{"": "7"}},
		`{"Addr":"h:1","Metadata":{}}`:                                          {Weight: 100, Metadata: map[string]string{}},
		`{"Addr":"h:1","Metadata":{"a":"b","n":1.50,"o":{"x": null},"z":null}}`: {Weight: 100, Metadata: map[string]string{"a": "b", "n": "1.50", "o": `{"x":null}`, "z": "null"}},
		`{"Addr":"h:1","Weight":5,"State":"ready","Later":[{}]}`:                {Weight: 5},
	} {
		want.Service, want.ID, want.Addr = "mail", "a", "h:1"
		got, err := decode("mail", "a", []byte(value))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s is read as %+v, %v; want %+v", value, got, err, want)
		}
	}
}

func TestMalformedValuesAreRefusedWithoutQuotingThem(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for value, rule := range map[string]string{
		``:                                       "not JSON",
		`hunter2`:                                "not JSON from byte 1 on",
		`{"Addr":"h:1"} hunter2`:                 "not JSON",
		`{"Addr":"h:1","Zone":"hunter2`:          "not JSON",
		`"hunter2"`:                              "not a JSON object",
		`["hunter2"]`:                            "not a JSON object",
		`null`:                                   "host:port",
		`{}`:                                     "host:port",
		`{"Addr":7}`:                             "Addr refused: it is not of type string",
		`{"Addr":"hunter2"}`:                     "host:port",
		`{"Addr":"h:1","Weight":-1}`:             "Weight refused",
		`{"Addr":"h:1","Weight":1.5}`:            "Weight refused",
		`{"Addr":"h:1","Weight":"hunter2"}`:      "Weight refused",
		`{"Addr":"h:1","Weight":99999999999999}`: "Weight refused",
		`{"Addr":"h:1","State":"hunter2"}`:       "State refused",
		`{"Addr":"h:1","Zone":"hunter2\u0000"}`:  "Zone refused",
		`{"Addr":"h:1","Version":["hunter2"]}`:   "Version refused",
		`{"Addr":"h:1","Metadata":{"a":"` + strings.Repeat("x", maxSize) + `"}}`:   "64 KiB",
		strings.Repeat(`{"Metadata":`, 5000) + `1` + strings.Repeat(`}`, 5000):     "host:port",
		strings.Repeat(`{"Metadata":`, 11_000) + `1` + strings.Repeat(`}`, 11_000): "64 KiB",
		`{"Metadata":` + strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000): "not JSON",
	} {
		_, err := decode("mail", "a", []byte(value))
		switch {
		case err == nil:
			t.Errorf("%.60s was not refused", value)
		case !strings.Contains(err.Error(), rule):
			t.Errorf("%.60s was refused without naming the rule %q: %v", value, rule, err)
		case strings.Contains(err.Error(), secret):
			t.Errorf("the refusal of %.60s quotes it: %v", value, err)
		}
	}
	if _, err := decode("mail", "a\nb", []byte(`{"Addr":"h:1"}`)); err == nil {
		t.Error("an ID with a control character was not refused")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("a", []byte(`{"Op":0,"Addr":"h:1","Metadata":{"a":"b"},"Zone":"z","Version":"1","Weight":7,"State":"draining"}`))
	f.Add("a", []byte(`{"Addr":"[::1]:80","Metadata":{"a":{"b":[1,null,"\ud800"]},"":null}}`))
	f.Add("a", []byte(`{"addr":"h:1","METADATA":"x","metadata":["\xff"]}`))
	f.Add("..", []byte(`{"Addr":"h:1"}`))
	f.Add("", []byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		i, err := decode("mail", id, value)
		if err != nil {
			if i != nil {
				t.Errorf("an instance beside the error %v", err)
			}
			return
		}
		if err := i.check(); err != nil {
			t.Errorf("%+v passed although: %v", i, err)
		}
		// What was read is written and read again as the same.
		again, err := encode(*i)
		if err != nil {
			t.Fatal(err)
		}
		var theirs struct {
			Op       uint8
			Addr     string
			Metadata any
		}
		if err := json.Unmarshal([]byte(again), &theirs); err != nil || theirs.Addr != i.Addr || theirs.Op != 0 {
			t.Errorf("etcd's endpoints read %s as %+v, %v", again, theirs, err)
		}
		if len(id)+len(again) > maxSize {
			return // escapes made it longer
		}
		j, err := decode("mail", id, []byte(again))
		if err != nil {
			t.Fatalf("%s, made of %q, is refused: %v", again, value, err)
		}
		same := maps.Equal(i.Metadata, j.Metadata)
		i.Metadata, j.Metadata = nil, nil
		if !same || !reflect.DeepEqual(i, j) {
			t.Errorf("%+v became %+v", i, j)
		}
	})
}
