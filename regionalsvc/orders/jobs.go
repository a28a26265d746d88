package orders

// Invoice are the arguments of the job that invoices an order. The worker is
// package invoices'. It is told all it needs: orders' rows are this package's.
type Invoice struct {
	Tenant     string `json:"tenant"`
	Order      string `json:"order"`
	Customer   string `json:"customer"`
	TotalCents int64  `json:"totalCents"`
	Currency   string `json:"currency"`
}

// Kind implements river.JobArgs.
func (Invoice) Kind() string { return "invoice" }

func invoiceOf(tenant string, o Order) Invoice {
	return Invoice{Tenant: tenant, Order: o.ID, Customer: o.CustomerID, TotalCents: o.TotalCents, Currency: o.Currency}
}
