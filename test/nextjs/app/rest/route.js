import { release } from '../gate'

export async function POST() {
  release()
  return new Response('released')
}
