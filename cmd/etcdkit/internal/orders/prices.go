package orders

import "fmt"

// MaxDiscount is the highest discount that prices may have.
const MaxDiscount = 50

// Prices is what the service follows under [ConfigKey].
type Prices struct {
	Discount int `json:"discount"` // in per cent
}

// Validate returns an error that names the rule that the prices break.
func (p Prices) Validate() error {
	if p.Discount < 0 || p.Discount > MaxDiscount {
		return fmt.Errorf("discount %d %%, must be 0 to %d %%", p.Discount, MaxDiscount)
	}
	return nil
}
