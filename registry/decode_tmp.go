package registry

type Decoder func(service, id string, value []byte) (*Instance, error)
type decoders []Decoder

func (d decoders) decode(service, id string, value []byte) (*Instance, error) {
	for _, f := range d {
		if i, err := f(service, id, value); err == nil {
			return i, nil
		} else if len(d) == 1 {
			return nil, err
		}
	}
	return decode(service, id, value)
}
