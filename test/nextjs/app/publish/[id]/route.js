import { revalidatePath } from 'next/cache'

// A product has changed: Next.js makes its page again, and the edge forgets it.
export async function POST(request, { params }) {
  const { id } = await params
  revalidatePath(`/products/${id}`)
  return new Response('published', { headers: { 'Cache-Group-Invalidation': `"product-${id}"` } })
}
