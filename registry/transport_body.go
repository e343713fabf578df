package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// answered returns a response that tells the pick when it has ended.
func answered(req *http.Request, resp *http.Response, pick Pick) *http.Response {
	resp.Request = req // as the caller made it: a Location is relative to the service
	b := &pickedBody{ReadCloser: resp.Body, pick: pick}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		b.failure = fmt.Errorf("registry: answered %s", resp.Status)
	}
	if resp.Body == nil || resp.Body == http.NoBody {
		b.done(nil) // and callers may never look at it
		return resp
	}
	resp.Body = b
	if w, ok := b.ReadCloser.(io.Writer); ok { // of a connection that was upgraded
		resp.Body = &upgradedBody{pickedBody: b, Writer: w}
	}
	return resp
}

// pickedBody is a response's body whose end is that of a pick.
type pickedBody struct {
	io.ReadCloser
	failure error // the status's

	once sync.Once // Close may come beside a Read
	pick Pick
}

// upgradedBody is one that is written to as well.
type upgradedBody struct {
	*pickedBody
	io.Writer
}

func (b *pickedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.done(nil)
	case err != nil:
		b.done(err)
	}
	return n, err
}

func (b *pickedBody) Close() error {
	err := b.ReadCloser.Close()
	b.done(nil)
	return err
}

func (b *pickedBody) done(err error) {
	b.once.Do(func() {
		if b.failure != nil {
			err = b.failure
		}
		b.pick.Done(err)
	})
}
