package invoices

import (
	"context"

	"github.com/riverqueue/river"
)

// job is what package orders enqueues, orders.Invoice, as its JSON: capabilities
// meet in the queue and do not import each other. A test holds the two together.
type job struct {
	Tenant     string `json:"tenant"`
	Order      string `json:"order"`
	Customer   string `json:"customer"`
	TotalCents int64  `json:"totalCents"`
	Currency   string `json:"currency"`
}

// Kind implements river.JobArgs.
func (job) Kind() string { return "invoice" }

// worker invoices the order of a job.
type worker struct {
	river.WorkerDefaults[job]
	service *Service
}

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, j *river.Job[job]) error {
	return w.service.Write(ctx, j.Args.Tenant, Invoice{
		OrderID: j.Args.Order, CustomerID: j.Args.Customer, TotalCents: j.Args.TotalCents, Currency: j.Args.Currency,
	})
}
