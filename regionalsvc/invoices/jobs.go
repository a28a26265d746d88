package invoices

import (
	"context"

	"github.com/riverqueue/river"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/orders"
)

// worker works on what package orders enqueues.
type worker struct {
	river.WorkerDefaults[orders.Invoice]
	service *Service
}

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[orders.Invoice]) error {
	return w.service.Write(ctx, job.Args)
}
