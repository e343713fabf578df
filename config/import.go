package config

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/names"
)

// maxExport bounds what is read of an export: etcd itself does not hold much more.
const maxExport = 1 << 30

// Import makes the keys below a prefix what an export says, in batched transactions, each key with its history. The empty prefix is the one that the
// export is of.
//
// All of it is read and checked before anything is sent, and compared before anything is written: names, sizes, and by Validate. What is
// equal already is not written, so that an Import that failed in the middle is finished by another one. Keys that are not in the export
// stay, unless o.Prune is set. A key that somebody changes meanwhile is a *[ConflictError], a value that is sealed for a key of another name
// [ErrSealed]. The Transfer says exactly what was written, with and without an error. [Difference.FromKey] is the key that the export
// is of.
func (s *Store) Import(ctx context.Context, prefix string, r io.Reader, o TransferOptions) (Transfer, error) {
	var t Transfer
	header, entries, err := decodeExport(r)
	if err != nil {
		return t, err
	}
	if prefix == "" {
		prefix = header.Prefix
	}
	below, err := s.prefix(prefix)
	if err != nil {
		return t, err
	}
	of := func(name string) string { return header.Prefix + "/" + name }
	all, _ := compare(below, nil, entries, of)
	if _, err := s.wishes(all, o); err != nil {
		return t, err
	}
	is, err := s.list(ctx, below, 0)
	if err != nil {
		return t, err
	}
	t.Revision = is.Revision
	t.Differences, t.Equal = compare(below, is.Entries, entries, of)
	if o.DryRun {
		return t, nil
	}
	ws, err := s.wishes(t.Differences, o)
	if err != nil {
		return t, err
	}
	if o.AsOf > 0 {
		for _, w := range ws {
			if w.Revision > o.AsOf {
				return t, &ConflictError{Key: w.Key, Expected: o.AsOf, Revision: w.Revision}
			}
		}
	}
	err = s.transfer(ctx, ws, source{}, o, &t)
	return t, err
}

var (
	errNoHeader  = errors.New("it does not begin with \"etcdkit: " + exportFormat + "\"")
	errNeither   = errors.New("it needs one of value and base64")
	errNotBase64 = errors.New("base64 is malformed")
	errTwice     = errors.New("its key was there before")
	errLong      = errors.New("the export is too large")
)

// decodeExport reads an export, which anybody may have written. The names of the entries are below the prefix. Errors name the line.
func decodeExport(r io.Reader) (exportHeader, []Entry, error) {
	var (
		header  exportHeader
		began   bool
		entries []Entry
		seen    = make(map[string]bool)
	)
	err := documents(r, func(document []byte) (err error) {
		if !began {
			began = true
			if header, err = exportHeaders.Decode(document); err != nil {
				return err
			}
			if header.Format != exportFormat {
				return errNoHeader
			}
			return names.Path("prefix", header.Prefix)
		}
		k, err := exportKeys.Decode(document)
		if err != nil {
			return err
		}
		value, err := k.value()
		switch {
		case err != nil:
			return err
		case len(value) > MaxPublished:
			return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(value), MaxPublished)
		case seen[k.Key]:
			return errTwice
		}
		if err := names.Path("key", k.Key); err != nil {
			return err
		}
		seen[k.Key] = true
		entries = append(entries, Entry{Key: k.Key, Value: value})
		return nil
	})
	if err == nil && !began {
		err = errNoHeader
	}
	if err != nil {
		return exportHeader{}, nil, fmt.Errorf("config: import: %w", err)
	}
	return header, entries, nil
}

// value is what a key is to hold.
func (k exportKey) value() ([]byte, error) {
	switch {
	case (k.Value == nil) == (k.Base64 == nil):
		return nil, errNeither
	case k.Value != nil:
		return []byte(*k.Value), nil
	}
	value, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(*k.Base64), ""))
	if err != nil {
		return nil, errNotBase64
	}
	return append([]byte{}, value...), nil
}

// documents calls fn for each document of a YAML stream, without those that hold only comments. What fn returns is given the line.
func documents(r io.Reader, fn func(document []byte) error) error {
	var (
		lines    = bufio.NewReader(io.LimitReader(r, maxExport+1))
		document []byte
		line     = 0 // that was read last
		first    = 1 // of the document
		total    = 0
		filled   bool
	)
	end := func() error {
		if !filled {
			document, first = document[:0], line+1
			return nil
		}
		err := fn(document)
		if e, ok := errors.AsType[*codec.Error](err); ok && e.Line > 0 {
			e.Line += first - 1
		}
		if err != nil {
			return fmt.Errorf("the document that begins at line %d: %w", first, err)
		}
		document, first, filled = document[:0], line+1, false
		return nil
	}
	for {
		text, err := readLine(lines, codec.MaxSize-len(document)+1)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", line+1, err)
		}
		if total += len(text); total > maxExport {
			return errLong
		}
		if len(text) > 0 {
			line++
		}
		// Values with such ends of lines are not exported as text; so these are version control's.
		if bytes.HasSuffix(text, []byte("\r\n")) {
			text = append(text[:len(text)-2], '\n')
		}
		bare := bytes.TrimRight(text, " \t\n")
		if string(bare) == "---" {
			if err := end(); err != nil {
				return err
			}
		} else {
			document = append(document, text...)
			filled = filled || len(bare) > 0 && bare[0] != '#'
		}
		if err != nil {
			return end()
		}
	}
}

// readLine reads a line with its end, of at most so many bytes.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > most {
			return nil, fmt.Errorf("the document is %w: at most %d bytes", ErrTooLarge, codec.MaxSize)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
