import { draftMode } from 'next/headers'
import Form from './form'

export const revalidate = 3600

export default async function Page() {
  const { isEnabled } = await draftMode()
  return (
    <main>
      <h1>{isEnabled ? 'a draft that nobody else may see' : 'as published'}</h1>
      <p>made at {String(process.hrtime.bigint())}</p>
      <Form />
    </main>
  )
}
